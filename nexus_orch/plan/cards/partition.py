"""How many layers lie on each stage of a pipeline: as many as leave every stage the same room for the KV cache."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

SEARCH_STEPS = 20
"""Halvings of the search for the best partition: enough for one in a million tokens."""
LEAST_GAIN = 1.1
"""A partition of our own is worth a setting from this factor of room on."""


@dataclass(frozen=True)
class PipelineMemory:
    """Bytes of the layers that are dealt out to stages, and of the room there. Lists are by layer or by stage, in
    order; bytes are of one rank."""

    layer_bytes: tuple[int, ...]
    token_bytes: tuple[float, ...]
    """Bytes that each layer keeps for a token in the KV cache."""
    room_bytes: tuple[int, ...]
    """Bytes that each stage has for its layers and their cache; may be negative."""

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
        """Bytes that the fullest stage lacks to hold its layers at all."""
        starts = [sum(partition[:index]) for index in range(len(partition))]
        return max(
            sum(self.layer_bytes[start : start + size]) - room
            for start, size, room in zip(starts, partition, self.room_bytes, strict=True)
        )

    @cached_property
    def most_tokens(self) -> float:
        """Tokens that no partition can exceed: all stages together, as if layers could be split."""
        return (sum(self.room_bytes) - sum(self.layer_bytes)) / max(1e-9, sum(self.token_bytes))

    @cached_property
    def _mean(self) -> float:
        return sum(self.token_bytes) / max(1, len(self.token_bytes))


def choose_partition(memory: PipelineMemory) -> tuple[int, ...]:
    """The partition whose fullest stage holds the most tokens; where not even the layers fit, the one that lacks the
    least on its fullest stage. Every stage gets a layer at least."""
    most = sum(max(0, room) for room in memory.room_bytes) / max(1e-9, sum(memory.token_bytes))
    if _deal(memory, 0.0, 0.0) is not None:
        return _search(memory, most, by_tokens=True)
    return _search(memory, float(sum(memory.layer_bytes) + max(0, -min(memory.room_bytes))), by_tokens=False)


def _search(memory: PipelineMemory, high: float, *, by_tokens: bool) -> tuple[int, ...]:
    """The best partition, by halving the range between what can be dealt out and what cannot: tokens to hold, or bytes
    too many on a stage."""
    low, best = 0.0, _deal(memory, 0.0, high)
    if by_tokens:
        best = _deal(memory, 0.0, 0.0)
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        found = _deal(memory, middle, 0.0) if by_tokens else _deal(memory, 0.0, middle)
        best = found or best
        if (found is not None) == by_tokens:
            low = middle
        else:
            high = middle
    assert best is not None
    return best


def _deal(memory: PipelineMemory, tokens: float, extra: float) -> tuple[int, ...] | None:
    """A partition whose stages hold `tokens` tokens each, with `extra` bytes more than they have; None if there is
    none.

    Stage by stage, the layers after which it can end, each with the earliest layer at which it then begins.
    """
    layers = len(memory.layer_bytes)
    each = (size + token * tokens for size, token in zip(memory.layer_bytes, memory.token_bytes, strict=True))
    costs = [0.0, *accumulate(each)]
    begins: list[dict[int, int]] = []
    ends = [0]
    for room in memory.room_bytes:
        begin_of: dict[int, int] = {}
        reached = 0
        for begin in ends:
            furthest = bisect_right(costs, costs[begin] + room + extra) - 1
            for end in range(max(begin, reached) + 1, furthest + 1):
                begin_of[end] = begin
            reached = max(reached, furthest)
        begins.append(begin_of)
        ends = sorted(begin_of)
    return _walk_back(begins, layers) if layers in begins[-1] else None


def _walk_back(begins: list[dict[int, int]], end: int) -> tuple[int, ...]:
    sizes = []
    for begin_of in reversed(begins):
        sizes.append(end - begin_of[end])
        end = begin_of[end]
    return tuple(reversed(sizes))
