"""How a model is divided: which cards, in which order of ranks, and how many layers on each pipeline stage."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.errors import Problem
from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.types import Choice, GpuFacts


@dataclass(frozen=True)
class Parallelism:
    """Ranks of tensor and pipeline parallelism with their choices."""

    tensor_parallel: int
    pipeline_parallel: int
    choices: tuple[Choice, ...]
    problems: tuple[Problem, ...] = ()
    gpus: tuple[GpuFacts, ...] = ()
    """The card of each rank, those of the first pipeline stage first; empty on the CPU engine."""
    partition: tuple[int, ...] = ()
    """Layers on each pipeline stage."""

    @property
    def ranks(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


def is_valid_tensor_parallel(architecture: Architecture, ranks: int) -> bool:
    """vLLM wants the attention heads divisible, and KV heads divisible or repeated a whole number of times
    (config/model.py: verify_with_parallel_config)."""
    if architecture.attention_heads % ranks:
        return False
    kv_heads = architecture.kv_heads
    return architecture.is_mla or kv_heads % ranks == 0 or ranks % kv_heads == 0
