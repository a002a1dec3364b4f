"""Prefetch: the last layers of every group, whole or only their wanted parameters, copied to the card ahead of use.

Read in model_executor/offloader/prefetch.py of 0.19.1 to 0.33.0. Layers are counted on each pipeline stage for itself.
The card keeps a static pool: one buffer for each different parameter (name and shape) among the offloaded layers and
each layer that is copied ahead, so that layers of several kinds need room for all kinds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nexus_orch.plan.offload.parameters import LayerPart, Moved, RankParts, StageParts

LARGEST_GROUP = 24
"""Groups of layers are tried up to this size."""
STEP = 1
"""Layers that are copied ahead: one keeps the pool smallest."""


@dataclass(frozen=True)
class Grouping:
    """The last `chosen` of every `size` layers live in host RAM. Lists are by card."""

    size: int
    chosen: int
    moved: tuple[Moved, ...]
    pools: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return sum(moved.bytes for moved in self.moved)


@dataclass(frozen=True)
class _Row:
    """One grouping of the layers of several stages; `bytes` over all ranks, the lists by stage."""

    bytes: int
    size: int
    chosen: int
    moved: tuple[Moved, ...]
    pools: tuple[int, ...]


def choose_grouping(ranks: Sequence[RankParts], *, amount_bytes: int | None = None, copies: int = 1) -> Grouping | None:
    """The grouping that offloads least and frees each rank's target after its pool; None when there is none.

    `copies` is how many times the offloaded weights are pinned at once (see `Moved.mapped_bytes`). `amount_bytes` asks
    instead for that many offloaded bytes on each rank, whatever they free.
    """
    targets: dict[StageParts, int] = {}
    for rank in ranks:
        wanted = rank.target_bytes if amount_bytes is None else amount_bytes
        targets[rank.stage] = max(wanted, targets.get(rank.stage, 0))
    counts = tuple(sum(rank.stage == stage for rank in ranks) for stage in targets)
    rows, needed = _list_rows(tuple(targets), counts), tuple(targets.values())
    reserved = ranks[0].pool_reserved
    least = sum(count * target for count, target in zip(counts, needed, strict=True))
    for row in rows[bisect_left(rows, least, key=lambda row: row.bytes) :]:
        if amount_bytes is None:
            gains = _freed(row, copies, pool_reserved=reserved)
        else:
            gains = tuple(moved.bytes for moved in row.moved)
        if all(gain >= target for gain, target in zip(gains, needed, strict=True)):
            return _make_grouping(row, ranks, targets)
    return None


def choose_largest_grouping(ranks: Sequence[RankParts], *, copies: int = 1) -> Grouping:
    """The grouping that frees most on the card that gains least, for want of one that frees enough."""
    stages = dict.fromkeys(rank.stage for rank in ranks)
    counts = tuple(sum(rank.stage == stage for rank in ranks) for stage in stages)
    reserved = ranks[0].pool_reserved
    rows = _list_rows(tuple(stages), counts)
    return _make_grouping(max(rows, key=lambda row: min(_freed(row, copies, pool_reserved=reserved))), ranks, stages)


def _make_grouping(row: _Row, ranks: Sequence[RankParts], stages: Iterable[StageParts]) -> Grouping:
    """The grouping of a row, by card; the stages are those of the row, in order."""
    order = list(stages)
    places = [order.index(rank.stage) for rank in ranks]
    moved, pools = tuple(row.moved[at] for at in places), tuple(row.pools[at] for at in places)
    return Grouping(row.size, row.chosen, moved, pools)


def _freed(row: _Row, copies: int, *, pool_reserved: bool) -> tuple[int, ...]:
    """Bytes that the card of each stage gains."""
    return tuple(
        moved.bytes - moved.mapped_bytes(copies) - (pool if pool_reserved else 0)
        for moved, pool in zip(row.moved, row.pools, strict=True)
    )


@lru_cache(maxsize=64)
def _list_rows(stages: tuple[StageParts, ...], counts: tuple[int, ...]) -> tuple[_Row, ...]:
    """All groupings of stages, of which each has as many ranks as `counts` says: those that offload least first, and of
    equal ones the smallest group."""
    largest = min(LARGEST_GROUP, max(len(stage.order) for stage in stages))
    rows = []
    for size in range(1, largest + 1):
        for chosen, parts in enumerate(zip(*(_group(stage, size) for stage in stages), strict=True), start=1):
            moved, pools = zip(*parts, strict=True)
            total = sum(count * part.bytes for count, part in zip(counts, moved, strict=True))
            rows.append(_Row(total, size, chosen, moved, pools))
    return tuple(sorted(rows, key=lambda row: row.bytes))


def _group(stage: StageParts, size: int) -> Iterator[tuple[Moved, int]]:
    """Bytes that leave a stage, and its pool, when the last 1, 2 ... `size` of every `size` layers live in host RAM
    (PrefetchOffloader.wrap_modules)."""
    counts = [0] * len(stage.kinds)
    for place in reversed(range(size)):
        for kind in stage.order[place::size]:
            counts[kind] += 1
        held = [(count, kind) for count, kind in zip(counts, stage.kinds, strict=True) if count]
        total = sum(count * kind.bytes for count, kind in held)
        pinned = sum(count * kind.pinned_bytes for count, kind in held)
        tables = sum(count * kind.page_table_bytes for count, kind in held)
        kept = sum(count * kind.kept_bytes for count, kind in held)
        yield Moved(total, total, pinned, tables, kept_bytes=kept), pool_bytes([kind for _, kind in held])


def pool_bytes(kinds: Sequence[LayerPart]) -> int:
    """Bytes of the static pool (StaticBufferPool): each parameter once by name and size, for each layer that is copied
    ahead."""
    if len(kinds) == 1 and len(set(kinds[0].names)) == len(kinds[0].names):
        return STEP * kinds[0].bytes
    buffers = {(name, size) for layer in kinds for name, size in zip(layer.names, layer.sizes, strict=True)}
    return STEP * sum(size for _, size in buffers)
