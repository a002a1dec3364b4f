"""How many layers lie on each stage of a pipeline: as many as leave every stage the same room for the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

SEARCH_STEPS = 48
"""Halvings of the search for the best partition: enough for a byte in a terabyte."""
LEAST_GAIN = 1.1
"""A partition of our own is worth a setting from this factor of room on."""


@dataclass(frozen=True)
class Load:
    """What is dealt out. Lists are by layer or by stage, in order; bytes are of one rank."""

    layer_bytes: tuple[int, ...]
    token_bytes: tuple[float, ...]
    """What a layer keeps for each token in the KV cache."""
    room_bytes: tuple[int, ...]
    """What each stage has for its layers and their cache; may be negative."""

    def tokens(self, partition: Sequence[int]) -> float:
        """Tokens that the fullest stage holds beside its layers. Negative where a stage cannot even hold these."""
        starts = [sum(partition[:index]) for index in range(len(partition))]
        found = []
        for start, size, room in zip(starts, partition, self.room_bytes, strict=True):
            layers = slice(start, start + size)
            rest = room - sum(self.layer_bytes[layers])
            each = sum(self.token_bytes[layers]) or self._mean * size
            found.append(rest / max(each, 1e-9))
        return min(found)

    def missing_bytes(self, partition: Sequence[int]) -> int:
        """What the fullest stage lacks to hold its layers at all."""
        starts = [sum(partition[:index]) for index in range(len(partition))]
        return max(
            sum(self.layer_bytes[start : start + size]) - room
            for start, size, room in zip(starts, partition, self.room_bytes, strict=True)
        )

    @cached_property
    def _mean(self) -> float:
        return sum(self.token_bytes) / max(1, len(self.token_bytes))


def choose_partition(load: Load) -> tuple[int, ...]:
    """The partition whose fullest stage holds the most tokens; where not even the layers fit, the one that lacks the
    least on its fullest stage. Every stage gets a layer at least."""
    most = sum(max(0, room) for room in load.room_bytes) / max(1e-9, sum(load.token_bytes))
    if _deal(load, 0.0, 0.0) is not None:
        return _search(load, most, by_tokens=True)
    return _search(load, float(sum(load.layer_bytes) + max(0, -min(load.room_bytes))), by_tokens=False)


def _search(load: Load, high: float, *, by_tokens: bool) -> tuple[int, ...]:
    """Halve the range between what can be dealt out and what cannot: tokens to hold, or bytes too many on a stage."""
    low, best = 0.0, _deal(load, 0.0, high)
    if by_tokens:
        best = _deal(load, 0.0, 0.0)
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        found = _deal(load, middle, 0.0) if by_tokens else _deal(load, 0.0, middle)
        best = found or best
        if (found is not None) == by_tokens:
            low = middle
        else:
            high = middle
    assert best is not None
    return best


def _deal(load: Load, tokens: float, extra: float) -> tuple[int, ...] | None:
    """Give each stage as many layers as it holds with so many tokens each, and `extra` bytes more than it has."""
    stages, layers = len(load.room_bytes), len(load.layer_bytes)
    sizes, layer = [], 0
    for stage, room in enumerate(load.room_bytes):
        left, size = room + extra, 0
        while layers - layer > stages - stage - 1:  # one layer for each later stage
            left -= load.layer_bytes[layer] + load.token_bytes[layer] * tokens
            if left < 0:
                break
            layer, size = layer + 1, size + 1
        if size == 0:
            return None
        sizes.append(size)
    return tuple(sizes) if layer == layers else None
