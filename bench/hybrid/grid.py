"""What is launched: models, offloads, mechanisms and modes, and what each server is then asked. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.hybrid.load import Workload

GIB = 1 << 30
WEIGHTS_GIB = {"qwen7b": 14.19, "qwen14b": 27.51, "qwen32b": 61.02, "qwen3_30b_a3b": 56.87}
BUS_GIB_PER_SECOND = 46.0
"""Only to choose how many tokens are asked for."""
ROOM_GIB = 8.0
"""KV cache and activations of a case of the grid."""
CARD_GIB = 139.8
BUDGET_24GB = 0.153
"""The share of this card that a card of 24 GB has (0.27 of 80 GB: 21.4 GiB)."""


@dataclass(frozen=True)
class Case:
    """One launch by nexus-run, and the workloads that its server is given."""

    name: str
    model: str
    overrides: tuple[str, ...]
    workloads: tuple[Workload, ...]


def grid(model: str) -> Iterator[Case]:
    """Offloads of 0, 25, 50 and 75 % by both mechanisms, eager; without offload and half offloaded with graphs too."""
    yield _make(model, 0, None, eager=True)
    for percent in (50, 25, 75):
        for backend in ("prefetch", "uva"):
            yield _make(model, percent, backend, eager=True)
    for backend in ("prefetch", "uva"):
        yield _make(model, 50, backend, eager=False)
    yield _make(model, 0, None, eager=False)


def comparison(model: str) -> Iterator[Case]:
    """The plan's own choices on a card of 24 GB, for one user and for 16, beside the ancestor's rule."""
    weights = WEIGHTS_GIB[model]
    ancestor = 0.3 * weights if weights < 0.9 * 24 else max(weights - 24 + 1, 0.6 * weights)
    budget = (f"memory.gpu_memory_utilization={BUDGET_24GB}", "model.max_model_len=4096")
    offload = ("memory=hybrid", f"memory.cpu_offload_gib={ancestor:.1f}", "memory.offload_backend=uva")
    batch = ("serve.max_num_seqs=32", "memory.enforce_eager=true", "model.dtype=float16")
    seconds = ancestor / BUS_GIB_PER_SECOND
    if weights - ancestor < 24 - 4:
        yield Case(f"{model}/24GB/ancestor", model, (*budget, *offload, *batch), _workloads(seconds, reads_again=True))
    ours = max(0.5, weights - 19) / BUS_GIB_PER_SECOND
    yield Case(f"{model}/24GB/plan", model, (*budget, "memory=hybrid"), _workloads(ours, reads_again=False))
    if model != "qwen3_30b_a3b":
        return  # the same plan serves one and many; of experts, more requests use more
    many = ("workload.concurrency=16", "workload.input_tokens=128", "workload.output_tokens=32")
    yield Case(f"{model}/24GB/plan16", model, (*budget, "memory=hybrid", *many), _workloads(ours, reads_again=False))


def _make(model: str, percent: int, backend: str | None, *, eager: bool) -> Case:
    weights = WEIGHTS_GIB[model]
    offloaded = weights * percent / 100
    share = (weights - offloaded + ROOM_GIB) / CARD_GIB
    overrides = [
        f"memory.enforce_eager={str(eager).lower()}",
        f"memory.gpu_memory_utilization={share:.3f}",
        "model.max_model_len=2048",
        "serve.max_num_seqs=16",
        "serve.max_num_batched_tokens=2048",
        "workload.concurrency=16",
        "workload.input_tokens=1000",
        "workload.output_tokens=4",
    ]
    if backend is None:
        overrides.append("memory=vram_only")
    else:
        overrides += ["memory=hybrid", f"memory.offload_backend={backend}", f"memory.cpu_offload_gib={offloaded:.2f}"]
    mode = "eager" if eager else "graphs"
    name = f"{model}/{percent}/{backend or 'none'}/{mode}"
    return Case(name, model, tuple(overrides), _workloads(offloaded / BUS_GIB_PER_SECOND, reads_again=backend == "uva"))


def _workloads(step_seconds: float, *, reads_again: bool) -> tuple[Workload, ...]:
    """One and 16 requests, short and of 1,000 tokens; fewer tokens where each takes long."""
    step = max(step_seconds, 0.02)
    short = int(min(96, max(12, 6 / step)))
    many = int(min(64, max(10, 6 / step)))
    reads = 1000 / 190 if reads_again else 0.5
    long_requests = 16 if 16 * reads * step < 45 else 4
    return (
        Workload(1, 32, short),
        Workload(16, 128, many),
        Workload(1, 1000, 6),
        Workload(long_requests, 1000, 4),
    )
