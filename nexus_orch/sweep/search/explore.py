"""The next point to launch: what the start is expected to improve, and what it says about the plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nexus_orch.sweep.search.readiness import believe_ready
from nexus_orch.sweep.search.space import Array, Space, likeness
from nexus_orch.sweep.search.speed import Belief, believe_speed, plan_speeds
from nexus_orch.sweep.search.stability import believe_stable
from nexus_orch.sweep.search.standing import MeasuredPoint, candidates
from nexus_orch.sweep.search.state import SweepState
from nexus_orch.sweep.types import LaunchPoint, Verdict

LEAST_READY = 0.25
"""Points that become ready with a smaller probability are not launched while better ones are left."""
SURELY_READY = 0.6
LEAST_GAIN = 0.0015
"""An expected improvement of less is worth no start."""
LEAST_STARTS = 12
"""Starts before which the search does not end for a lack of hope."""
FIRST_CHECK, SECOND_CHECK, LAST_CHECK = 2, 4, 7
"""Numbers of the starts that look where the plan sees nothing: a plan whose ranking is wrong is found out by them."""
RANKED_SHARE = 0.5
"""The share of the range of planned speeds that measured points must span before they say anything of the ranking."""
SLOWED_BY, SLOWED_ERRORS = 0.1, 2.0
"""How far below what others let expect, in logarithms and in standard deviations, a start is looked at again."""
MOST_AGAIN = 2
SURPRISE = 0.4
"""How far, in logarithms, the first look must be off the plan for a second one."""


@dataclass(frozen=True)
class Outlook:
    """What is believed of every point that can be launched, by rows of the space."""

    space: Space
    is_open: Array
    ready: Array
    stable: Array
    belief: Belief
    gain: Array
    """The expected improvement of the logarithm of the best speed, times the chances of being ready and stable."""
    best: float
    """The speed of the best candidate; 0 where there is none."""
    speeds: Mapping[int, float]
    is_ranked: bool
    """Whether the measured points tell whether the plan's ranking holds."""
    surprise: float
    """The largest difference between two measured points' errors of the plan, in logarithms."""
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, state: SweepState, space: Space, measured: Mapping[int, MeasuredPoint], verdicts: Mapping[int, Verdict]
    ) -> Outlook:
        begun = {launch.point for launch in state.begun.values()}
        is_open = np.array([x.number not in verdicts and x.number not in begun for x in space.points], dtype=bool)
        speeds = {point: found.speed for point, found in measured.items()}
        belief = believe_speed(space, speeds, {point: found.error for point, found in measured.items()})
        ready, stable = believe_ready(space, state.starts), believe_stable(space, state.starts)
        best = candidates(measured, state.task.goal)
        gain = _expected_gain(belief, float(belief.mean[space.row[best[0].point]]) if best else None)
        return cls(
            space=space,
            is_open=is_open,
            ready=ready,
            stable=stable,
            belief=belief,
            gain=gain * ready * stable * is_open,
            best=best[0].speed if best else 0.0,
            speeds=speeds,
            is_ranked=_is_ranked(space, list(speeds), ready),
            surprise=_surprise(space, speeds),
            notes=_notes(belief),
        )


def _is_ranked(space: Space, measured: Sequence[int], ready: Array) -> bool:
    """Whether the planned speeds of the measured points span enough of those of all points that likely start."""
    planned = plan_speeds(space)
    likely = planned[ready >= SURELY_READY]
    if len(likely) == 0 or np.ptp(likely) < math.log(1.2):
        return len(measured) > FIRST_CHECK
    seen = planned[[space.row[point] for point in measured]]
    return len(seen) > 0 and float(np.ptp(seen)) >= RANKED_SHARE * float(np.ptp(likely))


def _surprise(space: Space, speeds: Mapping[int, float]) -> float:
    errors = []
    for number, speed in speeds.items():
        prior = space.points[space.row[number]].prior
        if prior is not None and prior.tokens_per_second:
            errors.append(math.log(speed / prior.tokens_per_second))
    return max(errors) - min(errors) if errors else math.inf


def _expected_gain(belief: Belief, best: float | None) -> Array:
    if best is None:
        return np.asarray(belief.mean - belief.mean.min() + 0.1)
    deviation = np.maximum(belief.deviation, 1e-6)
    ahead = (belief.mean - best) / deviation
    return np.asarray(deviation * (ahead * ndtr(ahead) + np.exp(-(ahead**2) / 2) / math.sqrt(2 * math.pi)))


def _notes(belief: Belief) -> tuple[str, ...]:
    if belief.uses_plan or belief.correlation is None:
        return ()
    return (f"the plan's ranking does not hold (rank correlation {belief.correlation:+.2f}): its speeds are left out",)


def next_launch(state: SweepState, outlook: Outlook) -> LaunchPoint | None:
    """The start that is worth most; None when the budget is used or nothing is worth a start."""
    budget = state.task.budget
    if state.searching >= budget.launches or not outlook.is_open.any() or _is_late(state):
        return None
    number = state.searching
    if (again := _look_again(state, outlook)) is not None:
        return again
    is_unchecked = FIRST_CHECK <= number < LAST_CHECK and not outlook.is_ranked
    is_second = number == SECOND_CHECK and outlook.surprise > SURPRISE
    if (is_unchecked or is_second) and (check := _check_plan(state, outlook)) is not None:
        return check
    is_likely = outlook.ready >= LEAST_READY
    gain = np.where(is_likely, outlook.gain, 0.0) if (is_likely & outlook.is_open).any() else outlook.gain
    row = int(np.argmax(gain))
    if gain[row] <= 0 or (gain[row] < LEAST_GAIN and number >= LEAST_STARTS):
        return None
    return LaunchPoint(outlook.space.points[row].number, _reason(outlook, row, is_first=not state.starts))


def _is_late(state: SweepState) -> bool:
    """Whether the minutes left are only enough to confirm a pick."""
    budget, costs = state.task.budget, state.task.costs
    if budget.minutes is None:
        return False
    confirming = 2 * (costs.launch + 2 * costs.measure + 2 * costs.soak)
    return state.minutes + confirming + costs.launch + 2 * costs.measure > budget.minutes


def _check_plan(state: SweepState, outlook: Outlook) -> LaunchPoint | None:
    """A point that surely starts and is as unlike all started ones as can be."""
    space = outlook.space
    sure = outlook.is_open & (outlook.ready >= SURELY_READY)
    rows = [space.row[start.point] for start in state.starts if start.point in space.row]
    if not sure.any() or not rows:
        return None
    planned = plan_speeds(space)
    unlike = 1 - np.max([_nearness(space, row) for row in rows], axis=0)
    apart = np.abs(planned - planned[rows[0]]) / max(1e-9, float(np.ptp(planned)))
    row = int(np.argmax(np.where(sure, unlike + apart, -np.inf)))
    return LaunchPoint(space.points[row].number, "it is unlike all that were started: a check of the plan's ranking")


def _look_again(state: SweepState, outlook: Outlook) -> LaunchPoint | None:
    """A point whose only start was far slower than those like it let expect, and that would be the best otherwise."""
    if not outlook.best:
        return None
    again = sum(len(state.of(point)) > 1 for point in {x.point for x in state.starts if not x.is_confirming})
    for row, (mean, deviation) in outlook.belief.left_out.items():
        number = outlook.space.points[row].number
        starts = [start for start in state.of(number) if start.cause is None]
        lacks = mean - math.log(outlook.speeds[number])
        would_lead = mean >= math.log(outlook.best)
        is_odd = lacks > SLOWED_BY and lacks > SLOWED_ERRORS * deviation
        if is_odd and would_lead and len(starts) == 1 and again < MOST_AGAIN and outlook.stable[row] > 0.5:
            reason = f"its start was {1 - math.exp(-lacks):.0%} slower than those like it let expect: was it slowed?"
            return LaunchPoint(number, reason)
    return None


def _nearness(space: Space, row: int) -> Array:
    """How near all points lie to one of them, from 0 to 1."""
    near: Array = likeness(space.places, space.places[row : row + 1])[:, :, 0].mean(axis=0)
    return near


def _reason(outlook: Outlook, row: int, *, is_first: bool) -> str:
    if is_first:
        return "the plan's own best"
    speed = float(np.exp(outlook.belief.mean[row]))
    return (
        f"about {speed:,.1f} tokens/s are expected, give or take {outlook.belief.deviation[row]:.0%}; "
        f"it becomes ready with {outlook.ready[row]:.0%}"
    )
