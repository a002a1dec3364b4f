"""How cards are joined, and what dividing a model among them costs: the all-reduces of tensor parallelism against the
stages of a pipeline, which follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.release.kept import measured
from nexus_orch.types import GpuFacts

ALL_REDUCES_PER_LAYER = 2
"""All-reduces of tensor parallelism: after attention and after the feed-forward block (every decoder of
vllm/model_executor/models)."""
ACTIVATION_BYTES = 2
SHORT_MESSAGE_SECONDS = 25e-6
"""Seconds of an all-reduce of one token's hidden state between cards without NVLink. An assumption: an exchange of 8
bytes between two RTX 4090 over PCIe 4 without peer access takes 11.5 us (nccl-tests, alltoall_perf: issue 17 of
github.com/tinygrad/open-gpu-kernel-modules), and an all-reduce is two exchanges. vLLM's own short all-reduce needs
NVLink or, for two cards, peer access (distributed/device_communicators/custom_all_reduce.py)."""
STAGED_SHARE = 0.5
"""Share of the host's bus that data between two cards gets. An assumption: without peer access, which drivers refuse to
GeForce cards, NCCL writes to host memory and reads it back. With it, four RTX 4090 on PCIe 4 x16 reach 26 GB/s, the
whole bus (issue 36 of the same project)."""


@dataclass(frozen=True)
class PipelineStage:
    """A group of cards that share some layers. `share` is their part of the model."""

    gpus: tuple[GpuFacts, ...]
    share: float


@dataclass(frozen=True)
class Cost:
    """The seconds that a parallelism takes, for comparing it with others."""

    alone: float
    """Seconds of one request of the workload, with nothing else to do."""
    busy: float
    """Seconds for which each request takes the cards, with workload.concurrency of them at once."""
    exchange: float
    """Seconds that cards wait for each other over one token of a long prompt."""
    token_exchange: float
    """Seconds that cards wait for each other over one token of an answer, alone."""


def nvlink_all_reduce_seconds() -> float:
    """One all-reduce of a few tokens between cards that NVLink joins, by vLLM's own kernel inside a CUDA graph."""
    return float(measured("throughput")["nvlink_all_reduce_seconds"])


def has_nvlink(gpus: Sequence[GpuFacts]) -> bool:
    """Whether NVLink joins all of these cards. A bridge joins two; one that nobody has seen is not counted on."""
    if len(gpus) == 1 or not all(gpu.nvlink for gpu in gpus):
        return False
    return len(gpus) == 2 or not any(gpu.nvlink_is_bridge for gpu in gpus)


def bus_bandwidth(gpus: Sequence[GpuFacts]) -> float | None:
    """Bytes per second between cards that have only the host's bus; None where no bus is known."""
    known = [gpu.host_bandwidth_bytes_per_second for gpu in gpus]
    slowest = min((each for each in known if each is not None), default=None)
    return None if slowest is None or None in known else slowest * STAGED_SHARE


def estimate_cost(inputs: Inputs, stages: Sequence[PipelineStage]) -> Cost | None:
    """The cost of a parallelism whose weights lie on the cards; None where bandwidth or speed of a card is not known.

    A pass over `tokens` reads the weights that they use and computes with them, whichever takes longer. Tensor
    parallelism divides both and adds two all-reduces a layer; each rank sends and receives 2 (n-1)/n of the hidden
    state. The stages of a pipeline work on as many batches as there are requests, at most one for each stage, so that
    every batch reads the weights again. Attention is left out: it is divided alike by both.
    """
    work = inputs.spec.workload
    prompt, single = _Pass.over(inputs, stages, work.input_tokens), _Pass.over(inputs, stages, 1)
    concurrency = max(1, work.concurrency)
    batches = min(concurrency, len(stages))
    step = _Pass.over(inputs, stages, max(1, round(concurrency / batches)))
    if prompt is None or single is None or step is None:
        return None
    return Cost(
        alone=prompt.seconds + work.output_tokens * single.seconds,
        busy=prompt.cycle(batches) / batches + work.output_tokens * step.cycle(batches) / concurrency,
        exchange=prompt.exchange / max(1, work.input_tokens),
        token_exchange=single.exchange,
    )


@dataclass(frozen=True)
class _Pass:
    """One pass of some tokens through all stages."""

    stages: tuple[float, ...]
    """Seconds of each stage."""
    exchange: float
    """Seconds of waiting for other cards, in all stages."""

    @property
    def seconds(self) -> float:
        return sum(self.stages)

    def cycle(self, batches: int) -> float:
        """Seconds after which each of `batches` batches in the pipeline has moved on by one pass."""
        return max(self.seconds, batches * max(self.stages))

    @classmethod
    def over(cls, inputs: Inputs, stages: Sequence[PipelineStage], tokens: int) -> _Pass | None:
        whole, layers = inputs.whole, inputs.architecture.layers
        active, everything = whole.active_bytes, whole.plain_bytes
        used = everything * (1 - (1 - min(1.0, active / max(1, everything))) ** tokens) + whole.active_fixed_bytes
        operations = 2 * tokens * sum(layer.active_elements for layer in layers)
        seconds, waited = [], 0.0
        for stage in stages:
            work = _work_seconds(stage, used * stage.share, operations * stage.share)
            exchange = _exchange_seconds(inputs, stage, tokens, ALL_REDUCES_PER_LAYER * len(layers) * stage.share)
            if work is None or exchange is None:
                return None
            seconds.append(work + exchange)
            waited += exchange
        return cls(tuple(seconds), waited)


def _work_seconds(stage: PipelineStage, read_bytes: float, operations: float) -> float | None:
    """Seconds of reading and computing in a stage: each card takes an equal part, and the slowest one decides."""
    constants, slowest = measured("throughput"), 0.0
    for gpu in stage.gpus:
        if gpu.memory_bandwidth_bytes_per_second is None or gpu.fp16_flops is None:
            return None
        reading = read_bytes / (gpu.memory_bandwidth_bytes_per_second * float(constants["hbm_efficiency"]))
        computing = operations / (gpu.fp16_flops * float(constants["prefill_efficiency"]))
        slowest = max(slowest, max(reading, computing) / len(stage.gpus))
    return slowest


def _exchange_seconds(inputs: Inputs, stage: PipelineStage, tokens: int, times: float) -> float | None:
    """All-reduces of a stage. Over NVLink each is a short one: what its bytes take beyond that is little beside the
    weights."""
    cards = len(stage.gpus)
    if cards == 1:
        return 0.0
    if has_nvlink(stage.gpus):
        return times * nvlink_all_reduce_seconds()
    bandwidth = bus_bandwidth(stage.gpus)
    if bandwidth is None:
        return None
    sent = 2 * (cards - 1) / cards * tokens * inputs.architecture.hidden_size * ACTIVATION_BYTES
    return times * (SHORT_MESSAGE_SECONDS + sent / bandwidth)
