"""Prefetch: the last layers of every group, whole or only their wanted parameters, copied to the card ahead of use.

Read in model_executor/offloader/prefetch.py of 0.19.1 to 0.33.0. Layers are counted on each pipeline stage for itself.
The card keeps a static pool: one buffer for each different parameter (name and shape) among the offloaded layers and
each layer that is copied ahead, so that layers of several kinds need room for all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nexus_orch.plan.offload.parameters import LayerPart, Moved, RankParts

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


@lru_cache(maxsize=2048)
def count_chosen(order: tuple[int, ...], size: int) -> tuple[tuple[int, ...], ...]:
    """How many layers of each kind live in host RAM when the last 1, 2 ... `size` of every `size` layers do
    (PrefetchOffloader.wrap_modules)."""
    by_place = [[0] * (max(order, default=0) + 1) for _ in range(size)]
    for index, kind in enumerate(order):
        by_place[index % size][kind] += 1
    counts, total = [], [0] * len(by_place[0])
    for places in reversed(by_place):
        total = [have + more for have, more in zip(total, places, strict=True)]
        counts.append(tuple(total))
    return tuple(counts)


def choose_grouping(ranks: Sequence[RankParts], *, amount_bytes: int | None = None) -> Grouping | None:
    """The grouping that offloads least and frees each rank's target after its pool; None when there is none.

    `amount_bytes` asks instead for that many offloaded bytes on each rank, whatever they free.
    """
    unique = {rank.kind: rank for rank in ranks}
    best: tuple[int, int, int] | None = None
    # Fewer layers of each group can never suffice, were they all as large as the largest.
    shares = [_least_share(rank, amount_bytes) for rank in unique.values()]
    for size in range(1, min(LARGEST_GROUP, max(len(rank.stage.order) for rank in ranks)) + 1):
        least = max(math.ceil(layers / -(-count // size)) for layers, count in shares)
        for chosen in range(max(1, least), size + 1):
            total = _enough(unique.values(), size, chosen, amount_bytes)
            if total is not None:
                best = (total, size, chosen) if best is None or total < best[0] else best
                break  # more layers of the same group size only offload more
    if best is None:
        return None
    _, size, chosen = best
    return Grouping(
        size,
        chosen,
        tuple(_moved(rank, size, chosen) for rank in ranks),
        tuple(pool_bytes(_moved_kinds(rank, size, chosen)) for rank in ranks),
    )


def _least_share(rank: RankParts, amount_bytes: int | None) -> tuple[float, int]:
    """How many layers must go at least, for their target and the smallest pool, and how many there are."""
    sizes = [kind.bytes for kind in rank.stage.kinds if kind.bytes]
    largest, smallest = max(sizes, default=0), min(sizes, default=0)
    wanted = rank.target_bytes + (smallest if rank.pool_reserved else 0) if amount_bytes is None else amount_bytes
    return wanted / max(1, largest), max(1, len(rank.stage.order))


def _enough(ranks: Collection[RankParts], size: int, chosen: int, amount_bytes: int | None) -> int | None:
    """The bytes that this grouping offloads over these ranks, or None when they are too few for one of them."""
    moved = 0
    for rank in ranks:
        counts = count_chosen(rank.stage.order, size)[chosen - 1]
        total = sum(count * kind.bytes for count, kind in zip(counts, rank.stage.kinds, strict=True))
        if total < (rank.target_bytes if amount_bytes is None else amount_bytes):
            return None
        pool = pool_bytes(_moved_kinds(rank, size, chosen)) if rank.pool_reserved else 0
        if amount_bytes is None and total - pool < rank.target_bytes:
            return None
        moved += total
    return moved


def _moved(rank: RankParts, size: int, chosen: int) -> Moved:
    counts = count_chosen(rank.stage.order, size)[chosen - 1]
    total = sum(count * kind.bytes for count, kind in zip(counts, rank.stage.kinds, strict=True))
    return Moved(total, total, sum(n * kind.pinned_bytes for n, kind in zip(counts, rank.stage.kinds, strict=True)))


def _moved_kinds(rank: RankParts, size: int, chosen: int) -> tuple[LayerPart, ...]:
    counts = count_chosen(rank.stage.order, size)[chosen - 1]
    return tuple(kind for count, kind in zip(counts, rank.stage.kinds, strict=True) if count)


def pool_bytes(kinds: Sequence[LayerPart]) -> int:
    """The static pool (StaticBufferPool): each parameter once by name and size, for each layer that is copied ahead."""
    if len(kinds) == 1 and len(set(kinds[0].names)) == len(kinds[0].names):
        return STEP * kinds[0].bytes
    buffers = {(name, size) for layer in kinds for name, size in zip(layer.names, layer.sizes, strict=True)}
    return STEP * sum(size for _, size in buffers)
