"""The proof of a plan: each quantity that was planned beside what the launch shows of it.

Bytes of device memory are those of the fullest card, because vLLM's log tells them for each rank and that rank decides.
What a launch took of its cards is the difference of two samples: the first of the attempt, taken within a second of the
start of its process, and the newest. What it took of the host is the resident memory of its processes: in the launches
of bench/data/hybrid_h200.json that offloaded as planned it was 3 % below to 9 % above the plan, while the RAM in use of
the whole machine moved by -82 to +100 GiB with what ran beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nexus_orch.judge.log.balance import find_other_bytes, find_peak_bytes
from nexus_orch.types import GpuEstimate, GpuSample, HostEstimate, HostSample, Metric, Plan

SINGLE_SPEED = "tokens_per_second"
"""The number among those of a run that says how fast one request alone was answered."""


@dataclass(frozen=True)
class Comparison:
    """One quantity: what the plan said and what was measured. `unit` is bytes, tokens, requests or tokens/s."""

    name: str
    planned: float | None
    measured: float | None
    unit: str

    @property
    def difference(self) -> float | None:
        """Measured against planned, as a fraction of the plan."""
        if not self.planned or self.measured is None:
            return None
        return self.measured / self.planned - 1


@dataclass(frozen=True)
class Footprint:
    """What an attempt holds: the newest sample of the host, the first and the newest of each card."""

    host: HostSample | None = None
    gpus_before: Mapping[int, GpuSample] = field(default_factory=dict)
    gpus: Mapping[int, GpuSample] = field(default_factory=dict)

    @property
    def host_bytes(self) -> int | None:
        """Resident memory of the engine's processes, pinned memory too."""
        return self.host.engine_bytes if self.host is not None and self.host.processes else None

    @property
    def gpu_growth_bytes(self) -> int | None:
        """What was added on the card that gained most."""
        grown = [
            sample.memory_used_bytes - self.gpus_before[index].memory_used_bytes for index, sample in self.gpus.items()
        ]
        return max(0, *grown) if grown else None


def note_footprint(footprint: Footprint, sample: HostSample | GpuSample) -> Footprint:
    """The footprint after one more sample."""
    if isinstance(sample, HostSample):
        return replace(footprint, host=sample)
    before = footprint.gpus_before
    if sample.index not in before:
        before = {**before, sample.index: sample}
    return replace(footprint, gpus_before=before, gpus={**footprint.gpus, sample.index: sample})


def single_speed(before: Metric | None, now: Metric) -> float | None:
    """Tokens/s of one request alone; None unless these two readings in a row show one that is being answered."""
    if before is None or any(_requests(metric) != (1.0, 0.0) for metric in (before, now)):
        return None
    if now.values.get("prompt_tokens_per_second", 0.0) > 0:
        return None  # another request came between the two, or the prompt was still read
    return now.values.get("generation_tokens_per_second") or None


def make_proof(plan: Plan, numbers: Mapping[str, float], footprint: Footprint) -> tuple[Comparison, ...]:
    """Plan against launch; what neither tells is left out. `numbers` are those of the log and the probes by name."""
    found = (
        *_device(plan.per_gpu, numbers, footprint if plan.loader != "cpu" else Footprint()),
        Comparison("KV cache", plan.kv_cache_tokens or None, numbers.get("kv_cache_tokens"), "tokens"),
        Comparison("concurrency", plan.max_concurrency or None, numbers.get("max_concurrency"), "requests"),
        Comparison("host RAM", _kept_bytes(plan.host) or None, footprint.host_bytes, "bytes"),
        Comparison("one request", plan.prediction.decode_tokens_per_second, numbers.get(SINGLE_SPEED), "tokens/s"),
    )
    return tuple(line for line in found if line.planned or line.measured)


def _device(cards: Sequence[GpuEstimate], numbers: Mapping[str, float], footprint: Footprint) -> Iterator[Comparison]:
    fullest = min(cards, key=lambda card: card.headroom_bytes, default=None)
    for name, key in (
        ("weights on the device", "weights_bytes"),
        ("weights in host RAM", "offloaded_bytes"),
        ("offload buffer", "static_pool_bytes"),
        ("KV cache", "kv_cache_bytes"),
    ):
        yield Comparison(name, None if fullest is None else getattr(fullest, key), numbers.get(key), "bytes")
    yield from _profile(fullest, numbers)
    if footprint.gpus:
        yield Comparison("GPU memory", max(map(_taken_bytes, cards), default=None), footprint.gpu_growth_bytes, "bytes")


def _profile(card: GpuEstimate | None, numbers: Mapping[str, float]) -> Iterator[Comparison]:
    """What vLLM found when it profiled the card. The graphs that it reserves before the KV cache is sized are an
    estimate of its own; what they really take is known later and decides nothing."""
    peak, other, graphs = None, None, None
    pool = 0
    if card is not None:
        peak, other, graphs, pool = (
            card.activation_bytes,
            card.non_torch_bytes,
            card.cuda_graph_bytes,
            card.static_pool_bytes,
        )
    yield Comparison("activation peak", peak, find_peak_bytes(numbers), "bytes")
    reserved = numbers.get("cuda_graph_estimate_bytes")
    if reserved is not None:
        yield Comparison("CUDA graphs, reserved", graphs, reserved, "bytes")
        graphs = None
    yield Comparison("CUDA graphs", graphs, numbers.get("cuda_graph_bytes"), "bytes")
    yield Comparison("other", other, find_other_bytes(numbers, pool), "bytes")


def _taken_bytes(card: GpuEstimate) -> int:
    """What is taken of a card; the activation peak stays with PyTorch's allocator."""
    parts = (card.weights_bytes, card.kv_cache_bytes, card.activation_bytes, card.non_torch_bytes)
    return sum(parts) + card.cuda_graph_bytes + card.static_pool_bytes


def _kept_bytes(host: HostEstimate) -> int:
    """What of the host's RAM the run keeps: the copies made while loading have been given back when it is ready."""
    return host.required_bytes - host.loading_bytes


def _requests(metric: Metric) -> tuple[float, float]:
    return metric.values.get("running", 0.0), metric.values.get("waiting", 0.0)
