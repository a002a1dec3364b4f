"""Prefetch: the last layers of every group, whole or only their wanted parameters, copied to the card ahead of use.

Read in model_executor/offloader/prefetch.py of 0.19.1 to 0.33.0. Layers are counted on each pipeline stage for itself.
The card keeps a static pool: one buffer for each different parameter (name and shape) among the offloaded layers and
each layer that is copied ahead, so that layers of several kinds need room for all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


def chosen_layers(count: int, size: int, chosen: int) -> list[int]:
    """The layers of a rank that live in host RAM (PrefetchOffloader.wrap_modules)."""
    return [index for index in range(count) if index % size >= size - chosen]


def choose_grouping(ranks: Sequence[RankParts], *, amount_bytes: int | None = None) -> Grouping | None:
    """The grouping that offloads least and frees each rank's target after its pool; None when there is none.

    `amount_bytes` asks instead for that many offloaded bytes on each rank, whatever they free.
    """
    unique = {rank.kind: rank for rank in ranks}
    share = max(
        (rank.target_bytes if amount_bytes is None else amount_bytes) / max(1, rank.bytes) for rank in unique.values()
    )
    best: Grouping | None = None
    for size in range(1, min(LARGEST_GROUP, max(len(rank.layers) for rank in ranks)) + 1):
        # The layers left over after the last whole group stay on the card: fewer than the share can never suffice.
        for chosen in range(max(1, math.ceil(size * share)), size + 1):
            found = _try(list(unique.values()), size, chosen, amount_bytes)
            if found is None:
                continue
            if best is None or found.bytes < best.bytes:
                best = found
            break  # more layers of the same group size only offload more
    if best is None:
        return None
    known = dict(zip(unique, zip(best.moved, best.pools, strict=True), strict=True))
    each = [known[rank.kind] for rank in ranks]
    return Grouping(best.size, best.chosen, tuple(moved for moved, _ in each), tuple(pool for _, pool in each))


def _try(ranks: Sequence[RankParts], size: int, chosen: int, amount_bytes: int | None) -> Grouping | None:
    moved, pools = [], []
    for rank in ranks:
        layers = [rank.layers[index] for index in chosen_layers(len(rank.layers), size, chosen)]
        total = sum(layer.bytes for layer in layers)
        if total < (rank.target_bytes if amount_bytes is None else amount_bytes):
            return None
        pool = pool_bytes(layers)
        if amount_bytes is None and rank.pool_reserved and total - pool < rank.target_bytes:
            return None
        moved.append(Moved(total, total, sum(layer.pinned_bytes for layer in layers)))
        pools.append(pool)
    return Grouping(size, chosen, tuple(moved), tuple(pools))


def pool_bytes(layers: Sequence[LayerPart]) -> int:
    """The static pool (StaticBufferPool): each parameter once by name and size, for each layer that is copied ahead."""
    kinds = {id(layer): layer for layer in layers}.values()
    buffers = {(name, size) for layer in kinds for name, size in zip(layer.names, layer.sizes, strict=True)}
    return STEP * sum(size for _, size in buffers)
