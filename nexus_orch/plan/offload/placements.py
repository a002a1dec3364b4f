"""What a mechanism does with the weights, as the placement that a loader hands back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nexus_orch.contracts import Placement
from nexus_orch.plan.offload.mechanisms import PREFETCH, UVA
from nexus_orch.plan.offload.parameters import Moved, RankParts, StageParts
from nexus_orch.plan.offload.prefetch import Grouping
from nexus_orch.plan.offload.uva import budget_bytes, choose_gib, move_in_order
from nexus_orch.types import GIB


def place_nothing(cards: int) -> Placement:
    """The placement with all weights on the cards."""
    nothing = (0,) * cards
    return Placement(nothing, nothing, 0, 0, active_offloaded_bytes=nothing, page_table_bytes=nothing)


def choose_uva_gib(ranks: Sequence[RankParts], pinned: float | None) -> float:
    """GiB of `--cpu-offload-gb`: the pinned ones, else the least that makes room; all there is where that is too
    little."""
    if pinned is not None:
        return pinned
    chosen = choose_gib(ranks)
    return chosen if chosen is not None else -(-max(rank.bytes for rank in ranks) * 100 // GIB) / 100


def place_by_uva(ranks: Sequence[RankParts], gib: float) -> Placement:
    """The placement of whole parameters in order, up to the budget of each rank."""
    budget = budget_bytes(gib)
    moved = {kind: move_in_order(rank, budget) for kind, rank in {rank.kind: rank for rank in ranks}.items()}
    return replace(_placement([moved[rank.kind] for rank in ranks], (0,) * len(ranks)), mechanism=UVA)


def place_by_prefetch(ranks: Sequence[RankParts], grouping: Grouping, *, copies: int) -> Placement:
    """The placement of the last layers of each group, and the buffers that they are copied to.

    While a model is loaded each layer's weights go to the card and back into memory of their own. Up to 0.28 these
    copies are plain and given back; they are pinned again one by one (0.25.1 on an H100: 12.2 GiB pinned, 11.4 in the
    tensors). From 0.29 on they are pinned as well, all of them before the first ones are freed (`copies` is 2). What
    is freed stays with torch's allocator as far as that keeps it.
    """
    base = _placement(grouping.moved, grouping.pools, copies=copies)
    extra, kept, plain = base.pinned_bytes, sum(moved.kept_bytes for moved in grouping.moved), 0
    if copies == 1:
        extra = min(extra, sum(_largest(layer.pinned_bytes for layer in rank.different_layers) for rank in ranks))
        kept = min(kept, sum(_largest(layer.kept_bytes for layer in rank.different_layers) for rank in ranks))
        plain = sum(base.offloaded_bytes)
    copied = {stage: _copied_layers(stage, grouping) for stage in {rank.stage for rank in ranks}}
    return replace(
        base,
        host_bytes=base.host_bytes + kept,
        pinned_bytes=base.pinned_bytes + extra,
        loading_bytes=plain + extra - kept,
        copies_bytes=kept,
        copied_layer_bytes=tuple(copied[rank.stage] for rank in ranks),
        mechanism=PREFETCH,
        honours=("memory.cpu_offload_gib",),  # it becomes groups of layers
    )


def _largest(sizes: Iterable[int]) -> int:
    return max(sizes, default=0)


def _copied_layers(stage: StageParts, grouping: Grouping) -> tuple[int, ...]:
    """The bytes of each layer of a stage that is copied; layers of which nothing is wanted stay whole."""
    stays, sizes = grouping.size - grouping.chosen, [kind.bytes for kind in stage.kinds]
    return tuple(sizes[kind] if place % grouping.size >= stays else 0 for place, kind in enumerate(stage.order))


def _placement(moved: Sequence[Moved], pools: tuple[int, ...], *, copies: int = 1) -> Placement:
    pinned = sum(each.pinned_bytes for each in moved)
    return Placement(
        tuple(each.bytes for each in moved),
        pools,
        pinned,
        pinned,
        active_offloaded_bytes=tuple(each.active_bytes for each in moved),
        page_table_bytes=tuple(each.mapped_bytes(copies) for each in moved),
        idle_bytes=tuple(each.idle_bytes for each in moved),
    )
