"""A process for good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessKey:
    """A process that cannot be mistaken for a later one with the same pid.

    `create_time` is seconds since the epoch, as psutil tells it.
    """

    pid: int
    create_time: float
