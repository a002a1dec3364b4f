"""How fast PyTorch pins host memory, how much RAM that takes, how much of it stays after it was freed, and how fast it
is copied from: run by the engine's Python.

    python bench/hybrid/pinned.py [MIB] [OPTIONS...]        (the first card that CUDA shows; prints JSON lines)

OPTIONS are values of PYTORCH_CUDA_ALLOC_CONF, each tried in a process of its own, `default` for none (torch before 2.13
refuses `pinned_max_cached_size_mb:16`); MIB is the size of a tensor (270, which torch rounds up to 512).
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

TENSORS = 24
OPTIONS = ("default", "pinned_use_cuda_host_register:True,pinned_num_register_threads:8")
MIB = 1 << 20
CHILD = "--child"


def measure(options: str, size: int) -> dict[str, Any]:
    torch: Any = importlib.import_module("torch")
    torch.cuda.set_device(0)
    target = torch.empty(size, dtype=torch.uint8, device="cuda")
    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    pinned = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(TENSORS)]
    seconds = time.perf_counter() - started
    taken = process.memory_info().rss - before
    for source in pinned:
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for source in pinned:
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    copied = time.perf_counter() - started
    del pinned, source
    torch.empty(1, pin_memory=True)  # what was freed is looked at when something is asked for
    kept = process.memory_info().rss - before
    asked = TENSORS * size
    return {
        "options": options,
        "torch": torch.__version__,
        "asked_bytes": asked,
        "resident_bytes": taken,
        "kept_bytes": kept,
        "seconds": round(seconds, 2),
        "copy_bytes_per_second": round(asked / copied),
    }


def main() -> int:
    if CHILD in sys.argv:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))), flush=True)
        return 0
    size = (int(sys.argv[1]) if sys.argv[1:] else 270) * MIB
    for options in sys.argv[2:] or OPTIONS:
        env = {name: value for name, value in os.environ.items() if not name.endswith("ALLOC_CONF")}
        if options != "default":
            env["PYTORCH_CUDA_ALLOC_CONF"] = options
        subprocess.run([sys.executable, str(Path(__file__)), CHILD, options, str(size)], env=env, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
