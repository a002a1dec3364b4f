"""What a person reads of a sweep: before the first launch, at each decision, and at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from nexus_orch.sweep.types import By, Finish, GridPoint, LaunchPoint, SearchDecision, Task
from nexus_orch.view.words import render_duration, render_rate

SHOWN_VERDICTS = 6
"""Verdicts of one decision that are listed; a grid may have a thousand points."""
INDENT = "      "

_BY: dict[By, str] = {
    "plan": "the plan",
    "dominance": "a start of a point that takes less",
    "memory": "what starts showed of memory",
    "started": "their own failed start",
    "measured": "measured speeds",
    "unstable": "their own soak",
    "constraint": "the constraints",
}


def describe_start(task: Task, decision: SearchDecision, folder: Path) -> Iterator[str]:
    """How many points there are, what is decided already, and what the rest will take at most."""
    decided = f"{len(decision.verdicts):,} are decided without a launch"
    yield f"{len(task.points):,} points; {decided}, {decision.open_points:,} are open"
    counts = Counter(verdict.by for verdict in decision.verdicts)
    if counts:
        yield f"{INDENT}decided by " + ", ".join(f"{_BY[by]}: {count:,}" for by, count in counts.most_common())
    reasons = Counter(verdict.reason for verdict in decision.verdicts if verdict.by == "plan")
    for reason, count in reasons.most_common(SHOWN_VERDICTS):
        yield f"{INDENT}{count:,} x {reason}"
    if len(reasons) > SHOWN_VERDICTS:
        yield f"{INDENT}and {len(reasons) - SHOWN_VERDICTS} more reasons"
    goal = task.goal
    wanted = [f"output tokens/s of {goal.concurrency} requests at once"]
    if goal.first_token_seconds is not None:
        wanted.append(f"first token within {goal.first_token_seconds:g} s")
    if goal.max_model_len is not None:
        wanted.append(f"context of at least {goal.max_model_len:,} tokens")
    yield f"wanted: {', '.join(wanted)}"
    yield f"at most {_left(decision)}; kept in {folder}"


def describe_launch(decision: SearchDecision, step: LaunchPoint, point: GridPoint, number: int) -> Iterator[str]:
    """The next launch with its reason, and how the sweep stands."""
    what = "confirming launch" if step.is_confirming else "launch"
    yield f"{what} {number + 1}, point {point.number}: {' '.join(point.overrides)}"
    yield f"{INDENT}{step.reason}"
    yield (
        f"{INDENT}{decision.launches} launched, {len(decision.verdicts)} decided, {decision.open_points} open; "
        f"at most {_left(decision)} left"
    )
    for note in decision.notes:
        yield f"{INDENT}{note}"


def describe_verdicts(task: Task, decision: SearchDecision, told: Collection[int]) -> Iterator[str]:
    """The points that were decided since."""
    new = [verdict for verdict in decision.verdicts if verdict.point not in told]
    for verdict in new[:SHOWN_VERDICTS]:
        yield f"{INDENT}decided: point {verdict.point}: {verdict.reason}"
    if len(new) > SHOWN_VERDICTS:
        yield f"{INDENT}and {len(new) - SHOWN_VERDICTS:,} more points are decided"


def describe_end(task: Task, decision: SearchDecision, step: Finish) -> Iterator[str]:
    """The pick and why."""
    failed = f", {decision.failed_launches} of them failed" if decision.failed_launches else ""
    yield f"{decision.launches} launches{failed}, {render_duration(60 * decision.minutes)}"
    pick = decision.pick
    if step.pick is None or pick is None:
        yield f"no pick: {step.reason}"
        return
    point = task.points[step.pick]
    kind = "stable" if pick.is_stable else "not confirmed as stable"
    yield f"pick: point {point.number}, {' '.join(point.overrides)} ({kind})"
    spread = f", spread {pick.spread:.1%}" if pick.spread else ""
    yield f"{INDENT}{render_rate(pick.tokens_per_second)} tokens/s in {pick.starts} starts{spread}: {step.reason}"
    if pick.failure_bound is not None:
        yield (
            f"{INDENT}soaked with {pick.soaked_requests:,} requests: fewer than {100 * pick.failure_bound:.2g} % fail, "
            "with 95 % confidence"
        )


def _left(decision: SearchDecision) -> str:
    return f"{decision.expected_launches} launches and {render_duration(60 * decision.expected_minutes)}"
