"""What follows an attempt: another one with what it taught, the same once more, one with a better plan, the plan from
before, or the end.

Decided from what the attempt showed and what the run has done so far; nothing is launched or written here. A start that
fails leads to another one only where that one differs; an engine that dies while it serves is started again as it was,
because what killed it may have been a request. Both are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nexus_orch.judge.learned.lessons import Pin, find_pin, is_passing, learn
from nexus_orch.judge.serving.advice import Advice, make_moves
from nexus_orch.judge.start.verdict import RunState
from nexus_orch.session.prepare import Preparation
from nexus_orch.types import Cause, Failed, Lesson, LimitsSpec, MemorySpec, Plan, Stopped, Verdict

SERVED_SECONDS, SERVED_TOKENS = 600.0, 1000.0
"""An engine that served for longer, or more output tokens, before it died was good: its death is counted as the first.
A judgement, not a measurement: most that die of their first requests do so within a minute."""
PAUSES_SECONDS = (0.0, 5.0, 30.0, 60.0)
"""The wait before the start after the first death in a row, the second ...; the last one for all that follow. What the
engine held is free by then; the pauses are for what lies outside: a driver that resets, a disk, a neighbour."""
NOT_MENDED: frozenset[Cause] = frozenset({"broken_install", "cards_lost", "disk_full", "driver_mismatch"})
"""Causes that another start would meet again, whatever its plan: somebody must act on this machine first."""


@dataclass(frozen=True)
class NextAttempt:
    """The next attempt. `lessons` are new ones; `message` tells the user why there is another attempt."""

    kind: Literal["retry", "again", "adjust", "back", "restart"]
    """`again` is the same start once more, `restart` the start of an engine that died while it served."""
    lessons: tuple[Lesson, ...]
    message: str
    pause_seconds: float = 0.0
    """To be waited before it."""


@dataclass
class Course:
    """What a run has learned, moved and tried.

    `limits.attempts` bounds the starts that fail one after another, `limits.deaths` the deaths of engines that served
    too little, `limits.adjustments` the attempts with a better plan. Going back to the plan that served happens once
    and ends adjusting.
    """

    memory: MemorySpec
    limits: LimitsSpec
    serves: bool = True
    """Whether the run is to go on for good; one that ends after its first answer is not started again."""
    lessons: tuple[Lesson, ...] = ()
    failures: int = 0
    """Starts that failed since the engine was ready last."""
    deaths: int = 0
    """Deaths in a row of engines that had served, with too little between them."""
    adjustments: int = 0
    moved: dict[str, int] = field(default_factory=dict)
    """The settings that adjustments have moved, with their directions."""
    served_with: tuple[Lesson, ...] | None = None
    """The lessons of the plan that served before the last adjustment, until the adjusted one is ready."""
    is_repeated: bool = False
    """The same start was made once more: it is not made a third time."""
    is_settled: bool = False
    """Something failed after an adjustment: no other is made."""
    given_up: str = ""
    """Why no attempt follows the last one, where more can be said than its cause."""

    @property
    def may_adjust(self) -> bool:
        """Whether a running server may be restarted with a better plan."""
        return self.memory.dynamic == "act" and not self.is_settled and self.adjustments < self.limits.adjustments

    def after(
        self, verdict: Verdict, state: RunState, adjustment: Advice | None, prepared: Preparation
    ) -> NextAttempt | None:
        """What follows an attempt that nobody stopped; None when the run ends with it."""
        if state.was_ready:
            self.served_with = None
        if adjustment is not None and adjustment.lesson is not None and isinstance(verdict, Stopped):
            return self._adjust(adjustment.lesson, adjustment)
        if not isinstance(verdict, Failed):
            return None
        self.is_settled = self.is_settled or self.adjustments > 0
        if state.was_ready:
            return self._restart(verdict, state, prepared) if self.serves else None
        self.failures += 1
        step = self._retry(verdict, state, prepared) if self.failures < self.limits.attempts else None
        return step or self.go_back(f"the adjusted plan failed ({verdict.cause})")

    def _retry(self, failed: Failed, state: RunState, prepared: Preparation) -> NextAttempt | None:
        """Another start after one that failed; None when it would be no other."""
        lessons = self._learn(failed, state, prepared)
        if lessons:
            return NextAttempt("retry", lessons, "; ".join(lesson.source for lesson in lessons))
        if is_passing(failed) and not self.is_repeated:
            self.is_repeated = True
            return NextAttempt(
                "again", (), "others gave memory back while the engine measured: it is started once more"
            )
        pin = find_pin(failed, state.measured, prepared.plan, prepared.facts, self.lessons)
        self.given_up = "" if pin is None else _describe_pin(pin)
        return None

    def _restart(self, failed: Failed, state: RunState, prepared: Preparation) -> NextAttempt | None:
        """The start after the death of an engine that served; None when it died too often, or nothing would mend it."""
        self.failures, self.is_repeated = 0, False
        self.deaths = 1 if has_served(state) else self.deaths + 1
        if failed.cause in NOT_MENDED:
            self.given_up = f"it is not started again: another start would meet the same ({failed.cause})"
            return None
        if self.deaths >= self.limits.deaths:
            self.given_up = _describe_deaths(self.deaths)
            return None
        pause = PAUSES_SECONDS[min(self.deaths, len(PAUSES_SECONDS)) - 1]
        lessons = self._learn(failed, state, prepared)
        told = "; ".join(lesson.source for lesson in lessons)
        message = f"the engine died while it served ({failed.cause}): it is started again"
        return NextAttempt("restart", lessons, f"{message}; {told}" if told else message, pause)

    def _learn(self, failed: Failed, state: RunState, prepared: Preparation) -> tuple[Lesson, ...]:
        lessons = learn(failed, state.measured, prepared.plan, prepared.facts, self.lessons)
        self.lessons = (*self.lessons, *lessons)
        return lessons

    def go_back(self, reason: str) -> NextAttempt | None:
        """Once, to the plan that served before the last adjustment; None when there is none."""
        if self.served_with is None:
            return None
        self.lessons, self.served_with, self.is_settled = self.served_with, None, True
        return NextAttempt("back", (), f"{reason}: back to the plan that served, and no more adjustments")

    def note_plan(self, step: NextAttempt, before: Plan, after: Plan) -> None:
        """Remember which settings an adjustment has moved."""
        if step.kind == "adjust":
            self.moved |= make_moves(before, after)

    def _adjust(self, lesson: Lesson, advice: Advice) -> NextAttempt:
        self.served_with = self.lessons
        self.lessons = (*self.lessons, lesson)
        self.adjustments += 1
        return NextAttempt("adjust", (lesson,), f"{advice.change}: {advice.evidence}")


def has_served(state: RunState) -> bool:
    """Whether an engine that died had served enough for its death not to count with the ones before."""
    since = state.time if state.ready_since is None else state.ready_since
    return state.time - since >= SERVED_SECONDS or state.served_tokens >= SERVED_TOKENS


def _describe_deaths(deaths: int) -> str:
    if deaths == 1:
        return "it is not started again (limits.deaths=1)"
    between = f"{SERVED_SECONDS / 60:.0f} minutes or {SERVED_TOKENS:,.0f} output tokens"
    return f"it is given up: {deaths} deaths without {between} between them (limits.deaths)"


def _describe_pin(pin: Pin) -> str:
    origin = "" if pin.origin is None else f" ({pin.origin})"
    return f"no other start is tried, because {pin.key}={pin.value} is pinned{origin}; {pin.lesson.source}"


def is_same_launch(before: Preparation, after: Preparation) -> bool:
    """Whether a start by the second plan would be the first one again."""
    return _shown(before) == _shown(after)


def _shown(prepared: Preparation) -> tuple[Mapping[str, object], ...]:
    rendering = prepared.rendering
    return dict(prepared.plan.settings), dict(rendering.env)
