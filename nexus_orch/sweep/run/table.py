"""A sweep as the points that were launched, for the table and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from nexus_orch.errors import ExitCode
from nexus_orch.sweep.points import Outcome, Point
from nexus_orch.sweep.run.journal import SweepEntry, SweepJournal
from nexus_orch.sweep.types import INTERRUPTED, Ended, LaunchEnded, Soaked, Speed, Task

_CODES: dict[Outcome, ExitCode] = {
    "served": ExitCode.GOOD,
    "failed": ExitCode.LAUNCH_FAILED,
    "interrupted": ExitCode.INTERRUPTED,
}


@dataclass
class _Seen:
    """All that happened to one point."""

    entries: list[SweepEntry] = field(default_factory=list)
    causes: list[str | None] = field(default_factory=list)
    """Of its starts, None for one that became ready."""


def list_points(journal: SweepJournal) -> tuple[Point, ...]:
    """One point for each that was launched, by number: what its starts showed together."""
    task = journal.read().task
    seen: dict[int, _Seen] = {}
    for entry in journal.entries():
        if entry.outcome is None:
            continue
        point = seen.setdefault(entry.outcome.point, _Seen())
        point.entries.append(entry)
        if isinstance(entry.outcome, LaunchEnded):
            point.causes.append(entry.outcome.cause)
    return tuple(_make_point(task, number, seen[number]) for number in sorted(seen))


def _make_point(task: Task, number: int, seen: _Seen) -> Point:
    outcomes = [entry.outcome for entry in seen.entries]
    trouble = _find_trouble(seen.entries)
    causes = [cause for cause in seen.causes if cause is not None and cause != INTERRUPTED]
    was_ready = None in seen.causes
    outcome: Outcome = "served" if was_ready else "failed" if causes else "interrupted"
    point, prior = task.points[number], task.points[number].prior
    return Point(
        number=number,
        overrides=point.overrides,
        outcome=outcome,
        exit_code=int(_CODES[outcome]),
        seconds=round(60 * sum(getattr(outcome, "minutes", 0.0) for outcome in outcomes), 2),
        run_id=next((entry.run_id for entry in reversed(seen.entries) if entry.run_id), None),
        cause=causes[-1] if causes and not was_ready else None,
        message=trouble,
        measured=_measure(task, outcomes),
        predicted={
            name: value
            for name, value in (
                ("tokens_per_second", None if prior is None else prior.tokens_per_second),
                ("kv_cache_tokens", None if prior is None else prior.kv_cache_tokens),
            )
            if value is not None
        },
    )


def _measure(task: Task, outcomes: Sequence[object]) -> dict[str, float]:
    found: dict[str, float] = {}
    speeds = [
        x.tokens_per_second
        for x in outcomes
        if isinstance(x, Speed) and x.concurrency == task.goal.concurrency and not x.is_spoilt and not x.failed
    ]
    tokens = [x.kv_cache_tokens for x in outcomes if isinstance(x, LaunchEnded) and x.kv_cache_tokens is not None]
    if speeds:
        found["tokens_per_second"] = round(median(speeds), 3)
    if tokens:
        found["kv_cache_tokens"] = tokens[-1]
    return found


def _find_trouble(entries: Sequence[SweepEntry]) -> str:
    """Why a point is not good, in a few words."""
    for entry in entries:
        match entry.outcome:
            case Soaked(died_at_tokens=tokens) if tokens is not None:
                return f"died at {tokens:,} accumulated tokens"
            case Soaked(failed=failed, requests=requests) if failed:
                return f"{failed} of {requests} requests of its soak failed"
            case Ended(cause=cause) if cause not in (None, INTERRUPTED):
                return f"died while it was measured: {cause}"
            case LaunchEnded(cause=cause) if cause is not None and entry.detail.get("message"):
                return str(entry.detail["message"]).splitlines()[0]
    return ""
