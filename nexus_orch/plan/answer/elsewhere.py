"""When another kind of tool would serve the user better: one user, most weights in RAM, and the bus in between."""

from __future__ import annotations

from nexus_orch.plan.estimate.pace import Pace
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.types import RAM_RATE

MOST_SHARE = 0.5
"""The least share of the weights that must lie in RAM for a word about other tools."""
CLEARLY = 1.2
"""How many times faster the other way must be, by the numbers, to be worth a word."""
RAM_EFFICIENCY = 0.8
"""The share of the RAM's nominal bandwidth that a reader on all cores gets; an assumption, not a measurement."""
COMMON_BANDWIDTH = 40e9
"""Bytes per second that the RAM of nearly any PC with two channels of DDR4 gives."""


def judge_elsewhere(settled: Settled) -> str | None:
    """A sentence for one user whose weights lie mostly in RAM, when a runtime that computes there (such as llama.cpp)
    would be faster by the numbers; None else.

    vLLM brings every offloaded byte over the bus for each token; such a runtime reads it at the RAM's own speed, on the
    processors. Several users change that: vLLM reads once for all of them.
    """
    draft, placement = settled.draft, settled.placement
    cards = range(len(draft.gpus))
    weights = sum(draft.weights_bytes[card] for card in cards)
    if draft.inputs.spec.workload.concurrency != 1 or sum(placement.offloaded_bytes) <= MOST_SHARE * weights:
        return None
    pace = settled.pace
    seconds, bus = pace.step_seconds(), pace.bus_step_seconds()
    if seconds is None or not bus or bus < MOST_SHARE * seconds:
        return None
    read = sum(_used_bytes(pace, card) for card in cards)
    on_cards = max(0.0, seconds - bus)
    host = draft.inputs.facts.machine.host
    learned = draft.inputs.fixed.quantity(RAM_RATE)
    known = learned or (host.ram_bandwidth_bytes_per_second or 0.0) * RAM_EFFICIENCY
    there = (
        f"{read / 1e9:.1f} GB of weights are read in RAM for each token: for one user, a runtime that computes there "
        "(llama.cpp and its kind) would serve better than vLLM, which brings them over the bus"
    )
    if known:
        other = read / known + on_cards
        if seconds < CLEARLY * other:
            return None
        return f"{there}: about {1 / other:.1f} tokens/s at {known / 1e9:.0f} GB/s of RAM against {1 / seconds:.1f}"
    needed = CLEARLY * read / bus
    if needed > COMMON_BANDWIDTH:
        return None
    return f"{there}: faster from {needed / 1e9:.0f} GB/s of RAM on, which two channels of DDR4 give"


def _used_bytes(pace: Pace, card: int) -> int:
    """Bytes of the weights in RAM that one token needs, whatever vLLM moves."""
    moved, offloaded = pace.moved_bytes(card), pace.placement.offloaded_bytes[card]
    if moved < offloaded:
        return moved  # it brings what is used
    stage = pace.draft.weights.stages[pace.draft.stage_of(card)]
    share = stage.active_bytes / max(1, stage.plain_bytes)
    return int(offloaded * share)
