"""The points as places: how far they lie apart in each setting, and which of them take more memory than others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nexus_orch.sweep.types import GridPoint

CARD_DEMANDS: Mapping[str, int] = {
    "model.max_model_len": 1,
    "serve.max_num_seqs": 1,
    "memory.cpu_offload_gib": -1,
    "memory.gpu_memory_utilization": -1,
}
"""Settings in which the memory that lacks for a KV cache is monotone, by the sign of the demand (plan/release). Graphs,
batched tokens (the peak of compiling), formats and ways of offloading are not among them."""
HOST_DEMANDS: Mapping[str, int] = {"memory.cpu_offload_gib": 1, "memory.kv_offload_gib": 1, "memory.swap_gib": 1}
CARD_CAUSES = frozenset({"no_kv_cache_memory", "context_too_long", "weights_oom"})
"""Causes that say how much memory lacks for weights and KV cache."""
HOST_CAUSES = frozenset({"host_oom", "pinned_memory_unavailable"})

Array = np.ndarray[Any, Any]
FIRST_WORD = 10.0
"""Places from here on are words, not ranks of numbers."""
LENGTH = 0.8
"""How far the effect of a setting reaches, in ranks from 0 to 1."""
WORD_LIKENESS = 0.25
"""How alike two different words of a setting are taken to be."""


@dataclass(frozen=True)
class Space:
    """The launchable points of a task; `places` has a row for each, with a column for each setting that varies."""

    points: tuple[GridPoint, ...]
    keys: tuple[str, ...]
    places: Array
    """Numbers as their rank from 0 to 1 among the values that occur; other values as whole numbers from 10 on."""
    row: Mapping[int, int]
    """The row of a point by its number."""
    spare: Array
    """What the plan sees left for the KV cache beyond one request, in bytes; NaN where it could not be drawn."""

    @classmethod
    def of(cls, points: Sequence[GridPoint]) -> Space:
        launched = tuple(point for point in points if point.refusal is None and point.engine == point.number)
        keys = tuple(key for key in _keys(launched) if len(_values(launched, key)) > 1)
        columns = [_column(launched, key) for key in keys] or [[0.0] * len(launched)]
        spare = np.array([math.nan if point.prior is None else point.prior.spare_bytes for point in launched])
        rows = {point.number: row for row, point in enumerate(launched)}
        return cls(launched, keys, np.array(columns, dtype=float).T, rows, spare)

    def demanding(self, row: int, cause: str) -> Array:
        """Whether each point would fail as this one did: it asks for at least as much in every setting that differs."""
        demands = CARD_DEMANDS if cause in CARD_CAUSES else HOST_DEMANDS if cause in HOST_CAUSES else {}
        if not demands:
            return np.zeros(len(self.points), dtype=bool)
        asks_more = np.ones(len(self.points), dtype=bool)
        for key, column in zip(self.keys, self.places.T, strict=True):
            more = (column - column[row]) * demands.get(key, 0)
            are_numbers = (column < FIRST_WORD) & (column[row] < FIRST_WORD)
            asks_more &= (column == column[row]) | ((more > 0) & are_numbers)
        if cause in CARD_CAUSES:  # what the plan derives for itself may turn the order around: it must see no more left
            asks_more &= self.spare <= self.spare[row]
        asks_more[row] = False
        return asks_more


def _keys(points: Sequence[GridPoint]) -> list[str]:
    return list(dict.fromkeys(key for point in points for key in point.settings))


def _values(points: Sequence[GridPoint], key: str) -> set[str]:
    return {repr(point.settings.get(key)) for point in points}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _column(points: Sequence[GridPoint], key: str) -> list[float]:
    values: list[Any] = [point.settings.get(key) for point in points]
    numbers = sorted({float(value) for value in values if _is_number(value)})
    last = max(1, len(numbers) - 1)
    rank = {number: place / last for place, number in enumerate(numbers)}
    names = sorted({repr(value) for value in values if not _is_number(value)})
    words = {name: FIRST_WORD + place for place, name in enumerate(names)}
    return [rank[float(value)] if _is_number(value) else words[repr(value)] for value in values]


def likeness(first: Array, second: Array) -> Array:
    """How alike the rows are in each column, from 0 to 1: for numbers by their distance, for words all or little."""
    distance = np.abs(first.T[:, :, None] - second.T[:, None, :])
    is_word = np.maximum(first.T[:, :, None], second.T[:, None, :]) >= FIRST_WORD
    return np.where(is_word, np.where(distance == 0, 1.0, WORD_LIKENESS), np.exp(-distance / LENGTH))
