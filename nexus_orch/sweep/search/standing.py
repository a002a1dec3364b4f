"""What the starts so far say of each point: its measured speed, and what decided it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from nexus_orch.sweep.search.noise import measurement_noise, standard_error
from nexus_orch.sweep.search.readiness import is_hopeless
from nexus_orch.sweep.search.space import Space
from nexus_orch.sweep.search.stability import Health, judge_health
from nexus_orch.sweep.search.state import PointStart, SweepState
from nexus_orch.sweep.types import Goal, GridPoint, Pick, Task, Verdict

SLOWED_ERRORS = 2.0
"""Standard errors below the fastest start of a point beyond which another start was slowed down."""


@dataclass(frozen=True)
class MeasuredPoint:
    """A point that was measured at the goal's concurrency."""

    point: int
    speed: float
    """Tokens per second: the mean over its starts of each one's mean, the slowed ones left out."""
    error: float
    """The standard error of the speed, as a share of it."""
    spread: float
    starts: int
    confirming: int
    health: Health
    first_token_seconds: float | None
    soaked_starts: int


def list_measured(state: SweepState) -> dict[int, MeasuredPoint]:
    """Every measured point by its number."""
    found = {}
    for point in dict.fromkeys(start.point for start in state.starts):
        measured = _measure(point, state)
        if measured is not None:
            found[point] = measured
    return found


def _measure(point: int, state: SweepState) -> MeasuredPoint | None:
    concurrency = state.task.goal.concurrency
    starts = [start for start in state.of(point) if start.clean(concurrency)]
    if not starts:
        return None
    each = [[speed.tokens_per_second for speed in start.clean(concurrency)] for start in starts]
    every = [speed for speeds in each for speed in speeds]
    noise = measurement_noise(state.starts, concurrency)
    counted = _unslowed(each, noise)
    speed = mean(mean(speeds) for speeds in counted)
    waits = [x.first_token_seconds for start in starts for x in start.clean(concurrency)]
    known = [wait for wait in waits if wait is not None]
    return MeasuredPoint(
        point=point,
        speed=speed,
        error=standard_error(noise, sum(map(len, counted)), len(counted)),
        spread=(max(every) - min(every)) / median(every),
        starts=len(starts),
        confirming=sum(start.is_confirming for start in starts),
        health=judge_health(point, state.starts),
        first_token_seconds=median(known) if known else None,
        soaked_starts=sum(bool(start.soaks) for start in starts),
    )


def _unslowed(each: Sequence[Sequence[float]], noise: float) -> list[Sequence[float]]:
    """The starts' measurements without those of starts that something slowed down: throttling, neighbours.

    What disturbs a start makes it slower, never faster. So a start that lies below the fastest one by more than their
    noise says nothing of the point.
    """
    fastest = max(each, key=mean)
    kept = []
    for speeds in each:
        allowed = SLOWED_ERRORS * math.hypot(
            standard_error(noise, len(speeds), 1), standard_error(noise, len(fastest), 1)
        )
        if mean(speeds) >= (1 - allowed) * mean(fastest):
            kept.append(speeds)
    return kept


def breaks_constraint(measured: MeasuredPoint, goal: Goal) -> str | None:
    """Why a measured point does not keep the goal's constraints; None where it does."""
    limit, wait = goal.first_token_seconds, measured.first_token_seconds
    if limit is not None and wait is not None and wait > limit:
        return f"its first token takes {wait:.2f} s, and at most {limit:g} s are asked for"
    return None


def breaks_context(point: GridPoint, goal: Goal) -> str | None:
    """Why the point's planned context is too short; None where it is long enough or nothing is known."""
    if goal.max_model_len is None or point.prior is None or point.prior.max_model_len >= goal.max_model_len:
        return None
    return f"its context has {point.prior.max_model_len:,} tokens, and at least {goal.max_model_len:,} are asked for"


def candidates(measured: Mapping[int, MeasuredPoint], goal: Goal) -> list[MeasuredPoint]:
    """MeasuredPoint points that may still be the pick, the fastest first."""
    found = [x for x in measured.values() if x.health.trouble is None and breaks_constraint(x, goal) is None]
    return sorted(found, key=lambda x: (-x.speed, x.point))


def make_pick(measured: MeasuredPoint, *, is_stable: bool, reason: str) -> Pick:
    return Pick(
        point=measured.point,
        tokens_per_second=measured.speed,
        spread=measured.spread,
        starts=measured.starts,
        soaked_requests=measured.health.requests,
        failure_bound=measured.health.bound,
        is_stable=is_stable,
        reason=reason,
    )


def list_verdicts(state: SweepState, space: Space, measured: Mapping[int, MeasuredPoint]) -> dict[int, Verdict]:
    """Every point that needs no launch, by number: what the plan, its own start or that of another one decided."""
    verdicts = {}
    for point in state.task.points:
        verdict = _by_plan(point, state.task)
        if verdict is not None:
            verdicts[point.number] = verdict
    for verdict in (*_by_dominance(state.starts, space), *_by_itself(state, measured)):
        verdicts[verdict.point] = verdict
    return verdicts


def _by_plan(point: GridPoint, task: Task) -> Verdict | None:
    if point.refusal is not None:
        return Verdict(point.number, "plan", point.refusal)
    if point.engine != point.number:
        return Verdict(point.number, "plan", f"it is served by the command of point {point.engine}")
    short = breaks_context(point, task.goal)
    return None if short is None else Verdict(point.number, "constraint", short)


def _by_dominance(starts: Sequence[PointStart], space: Space) -> list[Verdict]:
    ready = {start.point for start in starts if start.cause is None}
    found = []
    for start in starts:
        row = space.row.get(start.point)
        if row is None or start.cause is None:
            continue
        for other in np.flatnonzero(space.demanding(row, start.cause)):
            number = space.points[other].number
            if number not in ready:
                reason = f"it takes at least as much memory as point {start.point}, which ended with {start.cause}"
                found.append(Verdict(number, "dominance", reason))
    return found


def _by_itself(state: SweepState, measured: Mapping[int, MeasuredPoint]) -> list[Verdict]:
    found = []
    for start in state.failures():
        if is_hopeless(start.point, state.starts):
            found.append(Verdict(start.point, "started", f"it did not start: {start.cause}"))
    for point in measured.values():
        broken = breaks_constraint(point, state.task.goal)
        if point.health.trouble is not None:
            found.append(Verdict(point.point, "unstable", point.health.trouble))
        elif broken is not None:
            found.append(Verdict(point.point, "constraint", broken))
        else:
            found.append(Verdict(point.point, "measured", f"{point.speed:,.1f} tokens/s were measured"))
    for number in {start.point for start in state.starts} - set(measured):
        health = judge_health(number, state.starts)
        if health.trouble is not None:
            found.append(Verdict(number, "unstable", health.trouble))
    return found
