"""What a loader offers, each way settled, and the best of them for the run.

A loader knows ways to place the weights; which of them is fastest is not for it to say: that depends on cards, bus and
workload, of which the planner makes its predictions (`throughput.py`). So what is chosen never contradicts what is
predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nexus_orch.contracts import Loader, Placement
from nexus_orch.errors import PluginError, Problem
from nexus_orch.plan.cards.account import budget_bytes
from nexus_orch.plan.estimate.draft import Draft, kv_bytes
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.types import GIB, Choice

TIE = 1.1
"""A loader's first placement is taken unless another one is better by more than a tenth: less is within the error of a
prediction."""
MOST_ROUNDS = 4
BACKEND = "memory.offload_backend"


@dataclass(frozen=True)
class _Offer:
    """A loader's placements, assuming `outside_bytes` are used outside the engine's budget."""

    outside_bytes: int
    utilization: Choice
    placements: Sequence[Placement]


def place_weights(draft: Draft, loader: Loader, highest_utilization: float) -> tuple[Settled, ...]:
    """The loader's placements within the largest share of memory that is free, up to the highest allowed, each with
    what follows: the best first, the others in the loader's order."""
    ways = list(_place_all(draft, loader, highest_utilization))
    best = ways.pop(find_best(ways))
    return best, *ways


def find_best(ways: Sequence[Settled]) -> int:
    """The place of the best way: one that fits the cards and the host, then the one that is worth most; of those that
    are as good, the first. Where none fits the cards, the one that leaves most for the KV cache; where none fits the
    host, the one that takes least of it."""
    best = max(way.standing for way in ways)
    left = [place for place, way in enumerate(ways) if way.standing == best]
    if not ways[left[0]].fits_context:
        return max(left, key=lambda place: min(ways[place].kv))
    if not ways[left[0]].fits_host:
        fitting = [place for place, way in enumerate(ways) if way.fits_context]
        return min(fitting, key=lambda place: ways[place].host.required_bytes)
    if len(left) == 1:
        return left[0]
    worths = {place: ways[place].worth for place in left}
    return next(place for place in left if worths[place] * TIE >= max(worths.values()))


def is_better(one: Settled, other: Settled) -> bool:
    """Whether one way fits where the other does not, or more surely."""
    return one.standing > other.standing


def _place_all(draft: Draft, loader: Loader, highest: float) -> Iterator[Settled]:
    """Every placement in the loader's order, at least one; those that offload by the rules of the runner that can."""
    offer = _ask(draft, loader, highest, draft.outside_bytes())
    if not (draft.generation.offload_ignored and any(any(way.offloaded_bytes) for way in offer.placements)):
        yield from _place_within(draft, loader, highest, offer)
        return
    kept = [way for way in offer.placements if not any(way.offloaded_bytes)]
    other = replace(draft, generation=draft.inputs.generation(offloading=True))
    for way in _place_within(other, loader, highest, _ask(other, loader, highest, other.outside_bytes())):
        if way.offloads:
            yield way
        elif not kept:  # that runner needs no offload: but without one, it is not taken
            yield _place_one(draft, way.placement, offer.utilization)
    yield from (_place_one(draft, way, offer.utilization) for way in kept)


def _place_within(draft: Draft, loader: Loader, highest: float, offer: _Offer) -> list[Settled]:
    """The placements of an offer. Those whose buffers come on top of the engine's budget are asked for once more within
    what they leave of it, until they do."""
    usual = offer.outside_bytes
    found: list[tuple[int, Settled]] = []
    for _ in range(MOST_ROUNDS):
        assumed = offer.outside_bytes
        needed = [draft.outside_bytes(way) for way in offer.placements]
        for place, (way, outside) in enumerate(zip(offer.placements, needed, strict=True)):
            if outside <= assumed and (assumed == usual or outside > usual):
                found.append((place, _place_one(draft, way, offer.utilization)))
        if max(needed) <= assumed:
            break
        offer = _ask(draft, loader, highest, max(needed))
    if not found:
        return [_place_one(draft, way, offer.utilization) for way in offer.placements]
    return [way for _, way in sorted(found, key=lambda entry: entry[0])]


def _ask(draft: Draft, loader: Loader, highest: float, outside_bytes: int) -> _Offer:
    utilization = _choose_utilization(draft, highest, outside_bytes)
    offered = loader.offer(draft.needs(float(utilization.value)), draft.inputs.spec, draft.inputs.facts)
    fault = _find_fault(offered, len(draft.gpus))
    if fault is not None:
        remedy = "mend the plugin; nexus_orch.testing.check_loader tries out what a loader promises"
        raise PluginError(Problem(f"the loader {loader.name} {fault}", "memory.strategy", loader.name, remedy=remedy))
    return _Offer(outside_bytes, utilization, offered)


def _find_fault(offered: Sequence[Placement], cards: int) -> str | None:
    """Why these placements cannot be used for so many cards."""
    if not offered:
        return "supports this run and offers no way to place its weights"
    for way in offered:
        for name, per_card in way.per_card.items():
            if len(per_card) != cards and (per_card or name in ("offloaded_bytes", "static_pool_bytes")):
                return f"offers a placement whose {name} has {len(per_card)} entries for {cards} cards"
    return None


def _place_one(draft: Draft, placement: Placement, utilization: Choice) -> Settled:
    budgets = tuple(budget_bytes(gpu, float(utilization.value)) for gpu in draft.gpus)
    sizes = kv_bytes(draft, budgets, placement)
    fixed = draft.inputs.spec.memory.kv_cache.size_gib
    if fixed is not None:
        sizes = tuple(min(size, int(fixed * GIB)) for size in sizes)
    return Settled(draft, placement, utilization, budgets, sizes)


def explain_backend(chosen: Settled, ways: Sequence[Settled]) -> Settled:
    """The chosen way; its back end says what the best way of the other one would give, or why it would not do."""
    others = [way for way in ways if way.offloads and way.mechanism is not chosen.mechanism]
    if not chosen.offloads or not others:
        return chosen
    against = _compare(chosen, others[find_best(others)])
    choices = tuple(
        replace(choice, reason=f"{choice.reason}{against}")
        if choice.key == BACKEND and choice.origin == "derived"
        else choice
        for choice in chosen.placement.choices
    )
    return replace(chosen, placement=replace(chosen.placement, choices=choices))


def _compare(chosen: Settled, other: Settled) -> str:
    if other.mechanism is None:
        return ""
    way = other.mechanism.way
    if chosen.fits_context and not other.fits_context:
        return f"; {way} would not leave enough room on the card"
    if chosen.fits_host and not other.fits_host:
        needed, there = other.host.required_bytes / GIB, other.host.available_bytes / GIB
        return f"; {way} would take {needed:.1f} GiB of host RAM, and {there:.1f} are available"
    mine, theirs = chosen.speed, other.speed
    if mine is None or theirs is None:
        return ""
    what = "one request" if chosen.draft.inputs.spec.workload.objective == "latency" else "the workload"
    return f": {what} gets about {mine:.3g} tokens/s, and {theirs:.3g} by {way}"


def _choose_utilization(draft: Draft, highest: float, outside_bytes: int) -> Choice:
    available = draft.free_utilization(outside_bytes)
    default = draft.generation.default_utilization
    free = min(draft.account.free_bytes) / GIB
    if available < min(highest, default):
        reason = f"{free:.1f} GiB are really free on the fullest card"
    elif highest > default:
        reason = f"raised above the engine's {default:g}: {free:.1f} GiB are really free, and every bit is needed"
    else:
        reason = f"the engine's own share; {free:.1f} GiB are really free on the fullest card"
    return draft.inputs.fixed.choice("memory.gpu_memory_utilization", min(available, highest), reason)
