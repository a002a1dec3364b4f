"""What is launched: models, offloads, mechanisms and modes, and what each server is then asked. Pure.

A case has a name, `MODEL/PERCENT/MECHANISM/MODE`: `qwen14b/50/prefetch/eager` has half of its weights in host RAM. The
mechanism is none, uva, prefetch or prefetch-experts, the mode eager or graphs. `MODEL/24GB/plan`, `plan16` and
`ancestor` give the engine what a card of 24 GB has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from bench.hybrid.load import Workload

GIB = 1 << 30
WEIGHTS_GIB = {"qwen7b": 14.19, "qwen14b": 27.51, "qwen32b": 61.02, "qwen3_30b_a3b": 56.87}
EXPERTS = "qwen3_30b_a3b"
EXPERT_SHARE = 8 / 128
"""Of its experts, what one token uses."""
EXPERT_BATCHES = (16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2000)
"""Batches for which vLLM's configurations of the experts' kernels differ (fused_moe/configs, 0.25.1), as the longest
prompt allows."""
BUS_GIB_PER_SECOND = 46.0
"""Only to choose how many tokens are asked for."""
DECODE_SECONDS = 2.0
"""For about so long tokens are counted."""
LONGEST_SECONDS = 12.0
"""16 prompts of 1,000 tokens that would take longer are asked as four."""
TOKENS_PER_READ = 190
ROOM_GIB = 8.0
"""KV cache and activations of a case of the grid."""
CARD_GIB = 139.8
BUDGET_24GB = 0.153
"""The share of this card that a card of 24 GB has (0.27 of 80 GB: 21.4 GiB)."""


@dataclass(frozen=True)
class Case:
    """One launch by nexus-run, the workloads that its server is given, and those that come before anything is timed."""

    name: str
    model: str
    overrides: tuple[str, ...]
    workloads: tuple[Workload, ...]
    warm_up: tuple[Workload, ...] = ()

    @property
    def is_processor_bound(self) -> bool:
        """Whether launching kernels may take longer than the card and the bus: without offload, and where few of the
        experts that are read in place are active."""
        offloads = "memory=hybrid" in self.overrides
        return not offloads or (self.model == EXPERTS and "memory.offload_backend=uva" in self.overrides)


def list_grid(model: str) -> Iterator[str]:
    """The names of all cases of a model: offloads of 0, 25, 50 and 75 %, by both mechanisms, eager and with graphs."""
    for mode, percent in itertools.product(("eager", "graphs"), (0, 25, 50, 75)):
        for mechanism in ("uva", "prefetch") if percent else ("none",):
            yield f"{model}/{percent}/{mechanism}/{mode}"


def make_case(name: str) -> Case:
    """The case of that name. Raises ValueError for one that is none."""
    parts = name.split("/")
    if parts[0] not in WEIGHTS_GIB:
        raise ValueError(f"{name}: one of {', '.join(WEIGHTS_GIB)} comes first")
    match parts:
        case [model, "24GB", kind] if kind in ("ancestor", "plan", "plan16"):
            return _compare(name, model, kind)
        case [model, percent, mechanism, mode] if mode in ("eager", "graphs") and percent.isdigit():
            return _offload(name, model, int(percent), mechanism, eager=mode == "eager")
    raise ValueError(f"{name}: MODEL/PERCENT/MECHANISM/MODE, or MODEL/24GB/plan|plan16|ancestor")


def _compare(name: str, model: str, kind: str) -> Case:
    """The plan's own choices on a card of 24 GB, for one user and for 16, and the ancestor's rule."""
    weights = WEIGHTS_GIB[model]
    overrides = [f"memory.gpu_memory_utilization={BUDGET_24GB}", "model.max_model_len=4096", "memory=hybrid"]
    if kind == "ancestor":
        moved = 0.3 * weights if weights < 0.9 * 24 else max(weights - 24 + 1, 0.6 * weights)
        overrides += [f"memory.cpu_offload_gib={moved:.1f}", "memory.offload_backend=uva"]
        overrides += ["serve.max_num_seqs=32", "memory.enforce_eager=true", "model.dtype=float16"]
    else:
        moved = max(0.5, weights - 19)
    if kind == "plan16":
        overrides += ["workload.concurrency=16", "workload.input_tokens=128", "workload.output_tokens=32"]
    return _make(name, model, overrides, moved, reads_again=kind == "ancestor")


def _offload(name: str, model: str, percent: int, mechanism: str, *, eager: bool) -> Case:
    weights = WEIGHTS_GIB[model]
    moved = weights * percent / 100
    overrides = [
        f"memory.enforce_eager={str(eager).lower()}",
        f"memory.gpu_memory_utilization={(weights - moved + ROOM_GIB) / CARD_GIB:.3f}",
        "model.max_model_len=2048",
        "serve.max_num_seqs=16",
        "serve.max_num_batched_tokens=2048",
        "workload.concurrency=16",
        "workload.input_tokens=1000",
        "workload.output_tokens=4",
    ]
    backend, _, experts = mechanism.partition("-")
    if backend == "none":
        overrides.append("memory=vram_only")
    else:
        overrides += ["memory=hybrid", f"memory.offload_backend={backend}", f"memory.cpu_offload_gib={moved:.2f}"]
    if experts:
        overrides.append(f"memory.offload_params=[{experts}]")
    return _make(name, model, overrides, moved, reads_again=backend == "uva")


def _make(name: str, model: str, overrides: list[str], moved_gib: float, *, reads_again: bool) -> Case:
    """One and 16 requests, short and of 1,000 tokens; fewer tokens where each takes long."""
    step = max(moved_gib / BUS_GIB_PER_SECOND, 0.02)
    one = max(step * EXPERT_SHARE, 0.04) if reads_again and model == EXPERTS else step
    short, many = (int(min(96, max(4, DECODE_SECONDS / seconds))) for seconds in (one, step))
    reads = 1000 / TOKENS_PER_READ if reads_again else 0.5
    requests = 16 if 16 * reads * step < LONGEST_SECONDS else 4
    after = max(4, many // 4)
    workloads = (
        Workload(1, 32, short),
        Workload(16, 128, many),
        Workload(1, 1000, max(4, short // 2)),
        Workload(requests, 1000, after if requests == 16 else 4),
    )
    warm_up = [Workload(1, 32, 2), Workload(16, 32, 2)]
    if model == EXPERTS:  # its kernels are compiled for each size of a batch
        warm_up = [Workload(1, 32, 2), Workload(16, 128, 2), Workload(1, 1000, 2), Workload(2, 1000, 2)]
        if not moved_gib:  # where a pass takes no time: later launches find the kernels compiled
            sizes = [Workload(requests, 32, 2) for requests in (2, 4, 8, 16)]
            warm_up = [*(Workload(1, tokens, 2) for tokens in EXPERT_BATCHES), *sizes, *warm_up]
    return Case(name, model, tuple(overrides), workloads, tuple(warm_up))
