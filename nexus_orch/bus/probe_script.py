"""Run by the engine's Python, not by ours: times copies to a card and reads in place, prints one JSON object.

    python probe_script.py [LAYER]       (the first card that CUDA shows)

`copy_bytes_per_second` is what a copy from pinned memory reaches, as the prefetch offloader makes it: one tensor of a
decoder layer at a time, one copy behind the other. `read_bytes_per_second` is what a matrix product reaches whose
weights lie in pinned host memory, by the number of tokens that it is given: so UVA reads offloaded weights. It is
missing where the installed vLLM has no view of host memory. LAYER is a JSON list of the rows and columns of a model's
layer: `layer_bytes_per_second` is what its products reach one behind the other, each weight counted once, because the
kernels that are taken for a shape decide how much of the bus they get. `ram_bytes_per_second` is what all processors
read together.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

COPIES = 24
ROWS, COLUMNS = 27648, 5120
"""A feed-forward matrix of a 14B model in bfloat16: 270 MiB."""
TOKENS = (1, 16, 256)
LAYER_TOKENS = (1, 16, 2048)
LAYERS_IN_A_ROW = 4
REPEATS = 5
RAM_BYTES = 1 << 30


def main() -> int:
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} of {sys.executable} sees no card")
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    weights = torch.randn(ROWS, COLUMNS, dtype=torch.bfloat16).pin_memory()
    found: dict[str, Any] = {
        "card": torch.cuda.get_device_name(device),
        "copy_bytes_per_second": time_copy(torch, weights, device),
        "ram_bytes_per_second": _time_ram(torch),
    }
    view = find_view()
    if view is not None:
        seen = view(weights)
        found["read_bytes_per_second"] = {str(tokens): time_read(torch, [seen], device, tokens) for tokens in TOKENS}
        layer = json.loads(sys.argv[1]) if len(sys.argv) > 1 else []
        if layer:
            kept = [torch.empty(*shape, dtype=torch.bfloat16, pin_memory=True).fill_(0.01) for shape in layer]
            views = [view(matrix) for matrix in kept] * LAYERS_IN_A_ROW
            rates = {str(tokens): time_read(torch, views, device, tokens) for tokens in LAYER_TOKENS}
            found["layer_bytes_per_second"] = rates
    print(json.dumps(found))  # noqa: T201 - the answer to the process that started this one
    return 0


def time_copy(torch: Any, source: Any, device: Any) -> float:
    """The median over repeats of several copies, one behind the other."""
    target = torch.empty_like(source, device=device)
    stream = torch.cuda.Stream(device)

    def copy() -> None:
        with torch.cuda.stream(stream):
            for _ in range(COPIES):
                target.copy_(source, non_blocking=True)

    return float(COPIES * source.nbytes) / _median_seconds(torch, copy, stream)


def _time_ram(torch: Any) -> float:
    """The median rate of summing memory that is larger than any cache."""
    numbers = torch.ones(RAM_BYTES // 4, dtype=torch.float32)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - started)
    return float(numbers.nbytes / sorted(seconds)[len(seconds) // 2])


def time_read(torch: Any, matrices: Sequence[Any], device: Any, tokens: int) -> float:
    """The median over repeats of a product with each of the matrices, one behind the other."""
    widths = {matrix.shape[1] for matrix in matrices}
    inputs = {width: torch.randn(tokens, width, dtype=torch.bfloat16, device=device) for width in widths}
    stream = torch.cuda.current_stream(device)

    def read() -> None:
        for matrix in matrices:
            torch.nn.functional.linear(inputs[matrix.shape[1]], matrix)

    return float(sum(matrix.nbytes for matrix in matrices)) / _median_seconds(torch, read, stream)


def _median_seconds(torch: Any, work: Any, stream: Any) -> float:
    work()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return float(sorted(seconds)[len(seconds) // 2])


def find_view() -> Any:
    """vLLM's own view of pinned memory, under the names that it had (vllm/utils*.py of 0.8.5 to 0.33.0)."""
    for home in ("vllm.utils.torch_utils", "vllm.utils"):
        for name in ("get_accelerator_view_from_cpu_tensor", "get_cuda_view_from_cpu_tensor"):
            try:
                return getattr(importlib.import_module(home), name)
            except (ImportError, AttributeError):
                continue
    return None


if __name__ == "__main__":
    sys.exit(main())
