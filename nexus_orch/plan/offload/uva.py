"""UVA: whole parameters in the engine's order, until what has moved reaches the budget of `--cpu-offload-gb`.

Read in model_executor/models/utils.py (maybe_offload_to_cpu) of 0.5.5 to 0.16.0 and model_executor/offloader/uva.py of
0.19.1 to 0.33.0; the rule never changed: each rank has the whole budget for itself, takes its layers in order and the
parameters of a layer in the order of named_parameters, and moves one more parameter as long as what has moved is below
the budget. Embeddings, head and final norm stay. From 0.29 on a vision tower comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nexus_orch.plan.offload.parameters import Moved, RankParts
from nexus_orch.types import GIB

MOST_DECIMALS = 9
"""At nine decimals of a GiB one step is about one byte."""


def budget_bytes(gib: float) -> int:
    """Bytes of the budget that vLLM makes of `--cpu-offload-gb`."""
    return int(gib * 1024**3)


def move_in_order(rank: RankParts, budget: int) -> Moved:
    """The parameters that this rank moves with that budget."""
    moved = active = pinned = tables = 0
    for layer in rank.layers:
        if moved >= budget:
            break
        if moved + layer.bytes <= budget:
            moved, active = moved + layer.bytes, active + layer.active_bytes
            pinned, tables = pinned + layer.pinned_bytes, tables + layer.page_table_bytes
            continue
        for size, part, held, table in zip(layer.sizes, layer.active, layer.pinned, layer.page_tables, strict=True):
            if moved < budget:
                moved, active = moved + size, active + part
                pinned, tables = pinned + held, tables + table
    idle = min(moved, rank.tower.bytes) if rank.tower is not None else 0  # the tower comes first
    return Moved(moved, active, pinned, tables, idle)


def choose_gib(ranks: Sequence[RankParts]) -> float | None:
    """GiB of the least `--cpu-offload-gb` that makes room on every rank; None when a rank has too little to move.

    The engine takes one number for all ranks: the rank that lacks most decides.
    """
    if not all(rank.has_enough for rank in ranks):
        return None
    unique = {rank.kind: rank for rank in ranks}.values()
    low = max(_moved_before(rank, rank.target_bytes) for rank in unique)
    high = min((after for rank in unique if (after := _next_step(rank, low)) is not None), default=low + 1)
    return _shortest(low, high)


def _moved_before(rank: RankParts, target: int) -> int:
    """Bytes that have moved just before the parameter with which the target is free."""
    moved = freed = 0
    for layer in rank.layers:
        if freed + layer.freed_bytes < target:
            moved, freed = moved + layer.bytes, freed + layer.freed_bytes
            continue
        for size, gain in zip(layer.sizes, layer.freed, strict=True):
            freed += gain
            if freed >= target:
                return moved
            moved += size
    return moved


def _next_step(rank: RankParts, budget: int) -> int | None:
    """The least bytes that this rank moves when it moves more than `budget`; None when it has no more."""
    moved = 0
    for layer in rank.layers:
        if moved + layer.bytes <= budget:
            moved += layer.bytes
            continue
        for size in layer.sizes:
            moved += size
            if moved > budget:
                return moved
    return None


def _shortest(low: int, high: int) -> float:
    """The GiB with fewest decimals whose bytes lie above `low` and not above `high`."""
    for decimals in range(MOST_DECIMALS):
        scale = 10.0**decimals
        gib = math.floor(low / GIB * scale + 1) / scale
        if low < budget_bytes(gib) <= high:
            return gib
    return (low + 1) / GIB
