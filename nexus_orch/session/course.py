"""What follows an attempt: another one with what it taught, the same once more, one with a better plan, the plan from
before, or the end.

Decided from what the attempt showed and what the run has done so far; nothing is launched or written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nexus_orch.judge.learned.lessons import is_passing, learn
from nexus_orch.judge.serving.advice import Advice, make_moves
from nexus_orch.judge.start.verdict import RunState
from nexus_orch.session.prepare import Preparation
from nexus_orch.types import Failed, Lesson, LimitsSpec, MemorySpec, Plan, Stopped, Verdict

TEACHES_WHILE_SERVING = ("runtime_oom",)
"""Causes that are learned from although the server had been ready: what it took while serving no start could show."""


@dataclass(frozen=True)
class NextAttempt:
    """The next attempt. `lessons` are new ones; `message` tells the user why there is another attempt."""

    kind: Literal["retry", "again", "adjust", "back"]
    """`again` is the same start once more."""
    lessons: tuple[Lesson, ...]
    message: str


@dataclass
class Course:
    """What a run has learned, moved and tried.

    `limits.attempts` bounds the attempts that fail, `limits.adjustments` those with a better plan. Going back to the
    plan that served happens once and ends adjusting.
    """

    memory: MemorySpec
    limits: LimitsSpec
    lessons: tuple[Lesson, ...] = ()
    failures: int = 0
    adjustments: int = 0
    moved: dict[str, int] = field(default_factory=dict)
    """The settings that adjustments have moved, with their directions."""
    served_with: tuple[Lesson, ...] | None = None
    """The lessons of the plan that served before the last adjustment, until the adjusted one is ready."""
    is_repeated: bool = False
    """The same start was made once more: it is not made a third time."""
    is_settled: bool = False
    """Something failed after an adjustment: no other is made."""

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
        self.failures += 1
        self.is_settled = self.is_settled or self.adjustments > 0
        if self.failures < self.limits.attempts and (not state.was_ready or verdict.cause in TEACHES_WHILE_SERVING):
            lessons = learn(verdict, state.measured, prepared.plan, prepared.facts, self.lessons)
            if lessons:
                self.lessons = (*self.lessons, *lessons)
                return NextAttempt("retry", lessons, "; ".join(lesson.source for lesson in lessons))
            if is_passing(verdict) and not self.is_repeated:
                self.is_repeated = True
                return NextAttempt(
                    "again", (), "others gave memory back while the engine measured: it is started once more"
                )
        return self.go_back(f"the adjusted plan failed ({verdict.cause})")

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


def is_same_launch(before: Preparation, after: Preparation) -> bool:
    """Whether a start by the second plan would be the first one again."""
    return _shown(before) == _shown(after)


def _shown(prepared: Preparation) -> tuple[Mapping[str, object], ...]:
    rendering = prepared.rendering
    return dict(prepared.plan.settings), dict(rendering.env)
