"""UVA: whole parameters in the engine's order, until what has moved reaches the budget of `--cpu-offload-gb`.

Read in model_executor/models/utils.py (maybe_offload_to_cpu) of 0.5.5 to 0.16.0 and model_executor/offloader/uva.py of
0.19.1 to 0.33.0; the rule never changed: each rank has the whole budget for itself, takes its layers in order and the
parameters of a layer in the order of named_parameters, and moves one more parameter as long as what has moved is below
the budget. Embeddings, head and final norm stay. From 0.29 on a vision tower comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from nexus_orch.plan.offload.parameters import Moved, RankParts, pinned_size
from nexus_orch.types import GIB

MOST_DECIMALS = 9
"""At nine decimals of a GiB one step is about one byte."""


def budget_bytes(gib: float) -> int:
    """The budget that vLLM makes of `--cpu-offload-gb`."""
    return int(gib * 1024**3)


def move_in_order(rank: RankParts, budget: int) -> Moved:
    """What this rank moves with that budget."""
    moved = active = pinned = 0
    for size in rank.tower_bytes:
        if moved < budget:
            moved, pinned = moved + size, pinned + pinned_size(size)
    for layer in rank.layers:
        if moved >= budget:
            break
        if moved + layer.bytes <= budget:
            moved, active, pinned = moved + layer.bytes, active + layer.active_bytes, pinned + layer.pinned_bytes
            continue
        for size, part in zip(layer.sizes, layer.active, strict=True):
            if moved < budget:
                moved, active, pinned = moved + size, active + part, pinned + pinned_size(size)
    return Moved(moved, active, pinned)


def choose_gib(ranks: Sequence[RankParts]) -> float | None:
    """The least `--cpu-offload-gb` that makes room on every rank; None when a rank has not so much to move.

    The engine takes one number for all ranks: the rank that lacks most decides.
    """
    if any(rank.target_bytes > rank.bytes for rank in ranks):
        return None
    unique = {rank.kind: rank for rank in ranks}.values()
    low = max(_before(rank, rank.target_bytes) for rank in unique)
    high = min((after for rank in unique if (after := _reached(rank, low + 1)) is not None), default=low + 1)
    return _shortest(low, high)


def _before(rank: RankParts, target: int) -> int:
    """What has moved just before the parameter with which the target is reached."""
    moved = 0
    for size in _sizes(rank, target):
        if moved + size >= target:
            break
        moved += size
    return moved


def _reached(rank: RankParts, target: int) -> int | None:
    """What has moved once the target is reached; None when the rank has not so much."""
    if rank.bytes < target:
        return None
    moved = _before(rank, target)
    return moved + next(size for size in _sizes_from(rank, moved) if moved + size >= target)


def _sizes(rank: RankParts, target: int) -> Iterator[int]:
    """Sizes in order; layers that lie wholly below the target come as one."""
    moved = 0
    for group in _groups(rank):
        total = sum(group)
        if moved + total < target:
            yield total
        else:
            yield from group
        moved += total


def _sizes_from(rank: RankParts, skipped: int) -> Iterator[int]:
    passed = 0
    for size in _flat(_groups(rank)):
        if passed >= skipped:
            yield size
        passed += size


def _groups(rank: RankParts) -> Iterator[tuple[int, ...]]:
    if rank.tower_bytes:
        yield rank.tower_bytes
    for layer in rank.layers:
        yield layer.sizes


def _flat(groups: Iterable[tuple[int, ...]]) -> Iterator[int]:
    for group in groups:
        yield from group


def _shortest(low: int, high: int) -> float:
    """The GiB with fewest decimals whose bytes lie above `low` and not above `high`."""
    for decimals in range(MOST_DECIMALS):
        scale = 10.0**decimals
        gib = math.floor(low / GIB * scale + 1) / scale
        if low < budget_bytes(gib) <= high:
            return gib
    return (low + 1) / GIB
