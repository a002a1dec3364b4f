"""How fast one request will be answered, from the bytes that each token must read."""

from __future__ import annotations

from nexus_orch.contracts import Placement
from nexus_orch.plan.accounting import measured
from nexus_orch.plan.draft import Draft
from nexus_orch.plan.kv_cache import CacheLayout


def decode_seconds(draft: Draft, placement: Placement, backend: str | None) -> float | None:
    """Seconds for one token of one request alone; None where a bandwidth is not known.

    The stages of a pipeline follow one another; the ranks of one stage work at the same time. Prefetch copies while the
    card computes, UVA reads in place, so that its times add up less the overlap that the measured efficiency contains.
    """
    tensor = draft.division.tensor_parallel
    seconds = 0.0
    for stage in range(draft.division.pipeline_parallel):
        card = stage * tensor
        moved = moved_bytes(draft, placement, card, backend)
        on_card = _card_seconds(draft, card, moved if backend == "uva" else 0)
        over_bus = bus_seconds(draft, card, moved, backend)
        if on_card is None or over_bus is None:
            return None
        seconds += max(on_card, over_bus) if backend == "prefetch" else on_card + over_bus
    return seconds


def moved_bytes(draft: Draft, placement: Placement, card: int, backend: str | None) -> int:
    """What one token brings over the bus of a card: all that is offloaded when layers are copied, what is used of it
    when it is read in place."""
    offloaded = placement.offloaded_bytes[card]
    if backend == "prefetch" or not offloaded:
        return offloaded
    if placement.active_offloaded_bytes:
        return placement.active_offloaded_bytes[card]
    stage = draft.weights.stages[draft.stage_of(card)]
    return offloaded * sum(stage.active_layer_bytes) // max(1, sum(map(sum, stage.parameter_bytes)))


def first_token_seconds(draft: Draft, placement: Placement, backend: str | None) -> float | None:
    """Seconds until the first token of a prompt of the workload's length: compute, and what the bus must carry."""
    gpu = draft.gpus[0]
    decode = decode_seconds(draft, placement, backend)
    if gpu.fp16_flops is None or decode is None:
        return None
    active = sum(layer.active_elements for layer in draft.inputs.architecture.layers)
    tokens = draft.inputs.spec.workload.input_tokens
    compute = 2 * active * tokens / (gpu.fp16_flops * float(measured("throughput")["prefill_efficiency"]))
    reads = 1.0
    if backend == "uva":
        reads = max(1.0, tokens / float(measured("throughput")["uva_tokens_per_read"]))
    bus = bus_seconds(draft, 0, placement.offloaded_bytes[0], "prefetch") or 0.0
    return compute / draft.division.tensor_parallel + max(decode, reads * bus)


def _card_seconds(draft: Draft, card: int, in_place: int) -> float | None:
    """One pass over the weights and the cache that lie on the card; `in_place` bytes are read in host RAM instead."""
    gpu, constants = draft.gpus[card], measured("throughput")
    if gpu.memory_bandwidth_bytes_per_second is None:
        return None
    stage = draft.weights.stages[draft.stage_of(card)]
    layers = max(0, sum(stage.active_layer_bytes) - in_place)
    work = draft.inputs.spec.workload
    cache = _cache_bytes(draft.caches[draft.stage_of(card)], work.input_tokens + work.output_tokens // 2)
    seconds = (layers + stage.active_fixed_bytes + cache) / (
        gpu.memory_bandwidth_bytes_per_second * float(constants["hbm_efficiency"])
    )
    floor = constants["eager_seconds_per_layer"] if draft.eager else constants["graph_seconds_per_layer"]
    return max(seconds, float(floor) * len(stage.layer_bytes))


def _cache_bytes(layout: CacheLayout, tokens: int) -> int:
    """The cache that one request of that length reads for each token."""
    return layout.request_blocks(tokens) * layout.block_bytes


def bus_seconds(draft: Draft, card: int, moved: int, backend: str | None) -> float | None:
    """So many bytes over the bus of that card."""
    gpu, constants = draft.gpus[card], measured("throughput")
    if not moved:
        return 0.0
    learned = draft.inputs.wishes.quantity(f"machine.host_bandwidth_bytes_per_second.{gpu.index}")
    bandwidth = gpu.host_bandwidth_bytes_per_second
    if learned is None and bandwidth is None:
        return None
    efficiency = constants["prefetch_bus_efficiency" if backend == "prefetch" else "uva_bus_efficiency"]
    return moved / (float(learned) if learned is not None else (bandwidth or 0.0) * float(efficiency))
