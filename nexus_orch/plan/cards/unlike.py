"""Cards that differ, in size, in speed or in what is free on them: which of them to use, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.target import make_target
from nexus_orch.plan.cards.account import free_bytes
from nexus_orch.plan.cards.interconnect import Cost, PipelineStage, estimate_cost
from nexus_orch.plan.cards.parallelism import is_valid_tensor_parallel
from nexus_orch.plan.cards.partition import PipelineMemory, choose_partition
from nexus_orch.plan.cards.pipeline_memory import StageCards, make_pipeline_memory
from nexus_orch.types import GIB, GpuFacts

SAME_SIZE = 0.02
"""Cards of one model differ by less than this in the memory that they report."""
SAME_FREE = 0.1
"""Cards whose free shares differ by less than this are used alike: a desktop takes a few per cent."""


@dataclass(frozen=True)
class Candidate:
    """Some of the cards, divided in one way. Tensor parallelism joins the cards of a stage."""

    groups: tuple[tuple[GpuFacts, ...], ...]
    memory: PipelineMemory
    partition: tuple[int, ...]
    cost: Cost | None

    @property
    def gpus(self) -> tuple[GpuFacts, ...]:
        return tuple(gpu for group in self.groups for gpu in group)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of tensor and pipeline parallelism."""
        return len(self.groups[0]), len(self.groups)

    @cached_property
    def tokens(self) -> float:
        """Tokens that the KV cache surely holds; negative where not even the weights fit."""
        return self.memory.tokens(self.partition)

    @cached_property
    def missing_bytes(self) -> int:
        """Bytes of the fullest card's weights that must lie elsewhere; negative where room is left."""
        return self.memory.missing_bytes(self.partition)

    def seconds(self, objective: str) -> float:
        """Seconds that a request costs: alone, or of the cards' time when throughput is the objective."""
        if self.cost is None:
            return float("inf")
        return self.cost.busy if objective == "throughput" else self.cost.alone


def are_unlike(inputs: Inputs, gpus: Sequence[GpuFacts]) -> bool:
    """Whether it matters which of these cards are used."""
    if len(gpus) < 2:
        return False
    sizes = [gpu.total_bytes for gpu in gpus]
    shares = [free_bytes(inputs, gpu) / gpu.total_bytes for gpu in gpus]
    differ = max(sizes) > min(sizes) * (1 + SAME_SIZE) or max(shares) - min(shares) > SAME_FREE
    return differ or len({gpu.name for gpu in gpus}) > 1


def find_candidates(inputs: Inputs, gpus: Sequence[GpuFacts]) -> Iterator[Candidate]:
    """Candidates of the one, two, three ... cards with the most free memory, in all ways that the heads and the pins
    allow.

    The cards of a stage lie side by side in that order, so that they are as equal as they can be. Pinned cards are all
    used, in the order in which they were named.
    """
    serve = inputs.spec.serve
    pinned = inputs.spec.hardware.gpu.devices is not None
    ordered = gpus if pinned else sorted(gpus, key=lambda gpu: (-free_bytes(inputs, gpu), gpu.index))
    for count in range(len(gpus) if pinned else 1, len(gpus) + 1):
        for tensor in range(1, count + 1):
            stages = count // tensor
            if count % tensor or not is_valid_tensor_parallel(inputs.architecture, tensor):
                continue
            if serve.tensor_parallel not in (None, tensor) or serve.pipeline_parallel not in (None, stages):
                continue
            if stages > len(inputs.architecture.layers) or len(serve.pipeline_partition or ()) not in (0, stages):
                continue
            groups = tuple(tuple(ordered[start : start + tensor]) for start in range(0, count, tensor))
            yield make_candidate(inputs, groups)


def make_candidate(inputs: Inputs, groups: StageCards, partition: tuple[int, ...] | None = None) -> Candidate:
    """The candidate of these cards with the pinned or the given partition, else with the one that leaves the most
    room."""
    memory = make_pipeline_memory(inputs, groups)
    taken = inputs.spec.serve.pipeline_partition or partition or choose_partition(memory)
    total = sum(memory.layer_bytes)
    starts = [sum(taken[:index]) for index in range(len(taken))]
    stages = [
        PipelineStage(group, sum(memory.layer_bytes[start : start + size]) / max(1, total))
        for group, start, size in zip(groups, starts, taken, strict=True)
    ]
    return Candidate(tuple(groups), memory, taken, estimate_cost(inputs, stages))


def choose_candidate(inputs: Inputs, candidates: Sequence[Candidate]) -> Candidate:
    """The fastest candidate that holds the target; the one with the most room where none does, or where context is the
    objective; where the weights do not fit at all, the one that needs the least host RAM for a card."""
    target, objective = make_target(inputs), inputs.spec.workload.objective
    needed = max(target.context, target.request_tokens * target.requests)
    enough = [candidate for candidate in candidates if candidate.tokens >= needed]
    if all(candidate.missing_bytes > 0 for candidate in candidates):
        return min(candidates, key=lambda candidate: candidate.missing_bytes)
    if not enough or objective == "context":
        return max(candidates, key=lambda candidate: (candidate.tokens, -len(candidate.gpus)))
    return min(enough, key=lambda candidate: (candidate.seconds(objective), -candidate.tokens))


def render_card(gpu: GpuFacts) -> str:
    return f"GPU {gpu.index} ({gpu.name}, {gpu.total_bytes / GIB:.0f} GiB)"
