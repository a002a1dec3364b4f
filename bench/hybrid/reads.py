"""How fast a matrix product reads weights in place over the bus, by shape and tokens: run by the engine's Python.

    PYTHONPATH=. python bench/hybrid/reads.py [CARD]        (a card as CUDA counts; prints one JSON line for each shape)

Shapes are those of the layers that vLLM 0.25.1 makes of Qwen2.5-7B, 14B and 32B; `bytes_per_second` counts each weight
once, however often the card fetches it.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from nexus_orch.bus.probe_script import find_view, time_copy, time_read

SHAPES = {
    "qwen7b": {"qkv": (4608, 3584), "o": (3584, 3584), "gate_up": (37888, 3584), "down": (3584, 18944)},
    "qwen14b": {"qkv": (7168, 5120), "o": (5120, 5120), "gate_up": (27648, 5120), "down": (5120, 13824)},
    "qwen32b": {"qkv": (7168, 5120), "o": (5120, 5120), "gate_up": (55296, 5120), "down": (5120, 27648)},
}
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def main() -> int:
    torch: Any = importlib.import_module("torch")
    view = find_view()
    if view is None:
        sys.exit("this vLLM has no view of host memory")
    device = torch.device("cuda", int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    torch.cuda.set_device(device)
    for model, shapes in SHAPES.items():
        for name, (rows, columns) in shapes.items():
            weights = torch.empty(rows, columns, dtype=torch.bfloat16, pin_memory=True)
            weights[:] = torch.randn(columns, dtype=torch.bfloat16)
            seen = view(weights)
            row: dict[str, Any] = {"model": model, "matrix": name, "rows": rows, "columns": columns}
            row["copy"] = time_copy(torch, weights, device)
            row["bytes_per_second"] = {tokens: time_read(torch, [seen], device, tokens) for tokens in TOKENS}
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
