"""What a loader offers, each way settled, and the best of them for the run.

A loader knows ways to place the weights; which of them is fastest is not for it to say: that depends on cards, bus and
workload, of which the planner makes its predictions (`throughput.py`). So what is chosen never contradicts what is
predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nexus_orch.contracts import Loader, Placement
from nexus_orch.plan.draft import Draft, kv_bytes
from nexus_orch.plan.host import estimate_host, lacks_ram
from nexus_orch.plan.settle import Settled
from nexus_orch.types import GIB, Choice, HostEstimate

TIE = 1.1
"""What a loader offers first is taken unless another way is better by more than a tenth: less is within the error of a
prediction."""
BACKEND = "memory.offload_backend"


def settle(draft: Draft, loader: Loader, highest_utilization: float) -> Settled:
    """The best of what the loader offers within the largest share of memory that is free, up to the highest allowed."""
    return choose_way(tuple(_settle_all(draft, loader, highest_utilization)))


def choose_way(ways: Sequence[Settled]) -> Settled:
    """The way that fits the cards, then the host, then the one that is worth most; where none fits, the one that
    leaves most for the KV cache."""
    standings = [(way.is_comfortable, way.fits_context, _fits_host(way)) for way in ways]
    best = max(standings)
    left = [way for way, standing in zip(ways, standings, strict=True) if standing == best]
    if not left[0].fits_context:
        return max(left, key=lambda way: min(way.kv))
    worths = [make_worth(way) for way in left]
    chosen = next(way for way, worth in zip(left, worths, strict=True) if worth * TIE >= max(worths))
    return _with_reason(chosen, ways)


def make_worth(settled: Settled) -> float:
    """Tokens per second: of one request where latency is the objective, else of the workload's requests together, as
    many of them at once as the KV cache holds. Where no speed is known, less over the bus is worth more."""
    speed = _speed(settled)
    if speed is not None:
        return speed
    return 1 / (1 + sum(settled.pace.moved_bytes(card) for card in range(len(settled.draft.gpus))))


def _speed(settled: Settled) -> float | None:
    work = settled.draft.inputs.spec.workload
    if work.objective == "latency":
        seconds = settled.pace.step_seconds()
        return 1 / seconds if seconds else None
    return settled.pace.together(settled.requests_at_once, work.input_tokens, work.output_tokens)


def _fits_host(settled: Settled) -> bool:
    return not lacks_ram(settled.draft.inputs, _estimate_host(settled))


def _estimate_host(settled: Settled) -> HostEstimate:
    return estimate_host(settled.draft.inputs, settled.placement, len(settled.draft.gpus))


def _settle_all(draft: Draft, loader: Loader, highest: float) -> Iterator[Settled]:
    """Every offer. Offers whose buffers come on top of the engine's budget are made once more within what they leave
    of it."""
    usual = draft.outside_bytes()
    offered = _offer(draft, loader, highest, usual)
    ignored = draft.generation.offload_ignored
    kept = [way for way in offered if not (ignored and any(way.offloaded_bytes))]
    yield from (_settle_one(draft, way, highest, usual) for way in kept if draft.outside_bytes(way) <= usual)
    largest = max(map(draft.outside_bytes, kept), default=usual)
    if largest > usual:
        again = _offer(draft, loader, highest, largest)
        yield from (_settle_one(draft, way, highest, largest) for way in again if draft.outside_bytes(way) > usual)
    if len(kept) < len(offered):
        offloading = replace(draft, generation=draft.inputs.generation(offloading=True))
        yield from (way for way in _settle_all(offloading, loader, highest) if way.offloads)


def _offer(draft: Draft, loader: Loader, highest: float, outside: int) -> Sequence[Placement]:
    share = float(_choose_utilization(draft, highest, outside).value)
    return loader.offer(draft.needs(share), draft.inputs.spec, draft.inputs.facts)


def _settle_one(draft: Draft, placement: Placement, highest: float, outside: int) -> Settled:
    utilization = _choose_utilization(draft, highest, outside)
    budgets = tuple(draft.budget_bytes(card, float(utilization.value)) for card in range(len(draft.gpus)))
    sizes = kv_bytes(draft, budgets, placement)
    fixed = draft.inputs.spec.memory.kv_cache.size_gib
    if fixed is not None:
        sizes = tuple(min(size, int(fixed * GIB)) for size in sizes)
    return Settled(draft, placement, utilization, budgets, sizes)


def _with_reason(chosen: Settled, ways: Sequence[Settled]) -> Settled:
    """The chosen way; its back end says what the best way of the other one would give, or why it would not do."""
    others = [way for way in ways if way.offloads and way.backend != chosen.backend]
    if not chosen.offloads or not others:
        return chosen
    against = _compare(chosen, max(others, key=lambda way: (way.fits_context, _fits_host(way), make_worth(way))))
    choices = tuple(
        replace(choice, reason=f"{choice.reason}{against}")
        if choice.key == BACKEND and choice.origin == "derived"
        else choice
        for choice in chosen.placement.choices
    )
    return replace(chosen, placement=replace(chosen.placement, choices=choices))


def _compare(chosen: Settled, other: Settled) -> str:
    way = {"uva": "reading in place", "prefetch": "copying ahead"}.get(str(other.backend), str(other.backend))
    if chosen.fits_context and not other.fits_context:
        return f"; {way} would not leave enough room on the card"
    if _fits_host(chosen) and not _fits_host(other):
        host = _estimate_host(other)
        needed, there = host.required_bytes / GIB, host.available_bytes / GIB
        return f"; {way} would take {needed:.1f} GiB of host RAM, and {there:.1f} are available"
    mine, theirs = _speed(chosen), _speed(other)
    if mine is None or theirs is None:
        return ""
    what = "one request" if chosen.draft.inputs.spec.workload.objective == "latency" else "the workload"
    return f": {what} gets about {mine:.3g} tokens/s, and {theirs:.3g} by {way}"


def _choose_utilization(draft: Draft, highest: float, outside_bytes: int) -> Choice:
    available = draft.free_utilization(outside_bytes)
    default = draft.generation.default_utilization
    free = min(draft.free_bytes(card) for card in range(len(draft.gpus))) / GIB
    if available < min(highest, default):
        reason = f"{free:.1f} GiB are really free on the fullest card"
    elif highest > default:
        reason = f"raised above the engine's {default:g}: {free:.1f} GiB are really free, and every bit is needed"
    else:
        reason = f"the engine's own share; {free:.1f} GiB are really free on the fullest card"
    return draft.inputs.wishes.choice("memory.gpu_memory_utilization", min(available, highest), reason)
