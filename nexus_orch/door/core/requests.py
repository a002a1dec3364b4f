"""A request on its way through the door, and the line of those that wait."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nexus_orch.door.core.orders import Arrival

Place = Literal["held", "sent", "doubtful", "answering", "cut"]
"""doubtful: the engine failed it, and the supervisor's word on the engine is awaited; cut: likewise, after a part of
its answer."""

ON_THE_ENGINE: tuple[Place, ...] = ("sent", "doubtful", "answering", "cut")


@dataclass
class DoorRequest:
    """One request that is not ended."""

    id: int
    arrival: Arrival
    place: Place
    since: float
    """When it came to this place."""
    turn: float
    """Its place in the line: those with a lower value come first."""
    sent_at: float = 0.0
    has_begun: bool = False
    """Some of the answer is with the client."""
    has_answer: bool = False
    """The engine answered it with an error, which is kept for the client."""
    is_proven: bool = False
    """Since it was sent last it showed that it does not kill the engine."""
    fruitless: int = 0
    """How often in a row it was sent and brought nothing."""

    @property
    def is_kept(self) -> bool:
        """Whether its body is needed still."""
        return not self.has_begun or self.arrival.can_continue


class Line:
    """Ids of waiting requests in the order of their turns."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[int]:
        """The ids as they are now: the line may be changed meanwhile."""
        return iter([number for _, number in self._entries])

    def add(self, request: DoorRequest) -> None:
        insort(self._entries, (request.turn, request.id))

    def remove(self, request: DoorRequest) -> None:
        del self._entries[bisect_left(self._entries, (request.turn, request.id))]
