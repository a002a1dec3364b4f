"""What the door knows of its engine: whether it is there, and how long requests wait for it."""

from __future__ import annotations

import math
from typing import Literal

from nexus_orch.door.core.orders import DoorLimits

Phase = Literal["starting", "serving", "draining", "down", "given up"]


class EngineView:
    """The engine as its supervisor tells of it. An absence lasts from its end, or from the door's start, to ready."""

    def __init__(self, limits: DoorLimits, now: float) -> None:
        self.phase: Phase = "starting"
        self.since = now
        """When it became ready, or when its absence began."""
        self.reason = ""
        """Why it is not there; "" at the first start."""
        self.slots = 0
        """Sequences that the plan can hold at the same time."""
        self.deaths = 0
        self.is_doubted = False
        """A process of it is gone: it gets nothing new until its supervisor has judged it."""
        self._limits = limits
        self._measured: float | None = None
        self._extra = 0.0

    @property
    def serves(self) -> bool:
        return self.phase == "serving"

    @property
    def expected_seconds(self) -> float:
        """How long an absence lasts: as the last one did, beside the pause or the drain that is known of this one."""
        start = self._limits.unmeasured_start_seconds if self._measured is None else self._measured
        return start + self._extra

    @property
    def wait_seconds(self) -> float:
        """How long a request waits at most, in the present phase."""
        if self.serves:
            return self._limits.queue_seconds
        return max(self._limits.least_wait_seconds, self._limits.patience * self.expected_seconds)

    def left_seconds(self, now: float) -> int:
        """When a client should come again: what is left of the absence; a tenth of it where it lasts too long."""
        if self.serves:
            return 1
        left = self.since + self.expected_seconds - now
        return max(1, math.ceil(left if left > 0 else self.expected_seconds / 10))

    def start(self) -> None:
        """Another start of it has begun."""
        self.phase = "starting"

    def become_ready(self, now: float, slots: int) -> None:
        if not self.serves:
            self._measured = max(0.0, now - self.since - self._extra)
        self.phase, self.since, self.reason, self.slots, self._extra = "serving", now, "", slots, 0.0
        self.is_doubted = False

    def drain(self, now: float, reason: str, longest_seconds: float) -> None:
        self._leave("draining", now, reason)
        self._extra = longest_seconds

    def go_down(self, now: float, reason: str) -> None:
        self._leave("down", now, reason)

    def pause(self, seconds: float) -> None:
        """It is started again only after so long."""
        self._extra = seconds

    def give_up(self, now: float, reason: str) -> None:
        self._leave("given up", now, reason)

    def _leave(self, phase: Phase, now: float, reason: str) -> None:
        if self.phase in ("serving", "draining"):
            self.since, self._extra = now, 0.0
        self.phase, self.reason, self.is_doubted = phase, reason, False
