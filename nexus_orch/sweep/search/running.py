"""What is still to be done with the engine that runs: measurements until they agree, then a soak where it matters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean

from nexus_orch.sweep.search.noise import measurement_noise
from nexus_orch.sweep.search.stability import is_suspicious, judge_health
from nexus_orch.sweep.search.standing import MeasuredPoint, breaks_constraint, candidates
from nexus_orch.sweep.search.state import PointStart, SweepState
from nexus_orch.sweep.types import Measure, Soak, Step

CLEAN_RUNS = 2
CLOSE_RUNS = 3
"""Measurements of a point that is nearly the best, or whose first ones differ."""
AGREEING = 0.08
"""Two measurements that differ by less agree."""
CLOSE = 0.03
"""A point that lacks less of the best speed, beyond its error, is nearly the best."""
SURE = 0.022
"""The standard error at which the speed of a point that is nearly the best is known."""
CONTENDING = 0.97
"""A point with at least this share of the best soaked speed is worth a soak."""
MOST_RUNS = 8
"""More measurements in one start do not make it better: what spoils them stays."""
CONFIRMING_SOAKS = 2
WARY_SOAKS = 3
"""Soaks of a confirming start where some point of the sweep was unstable."""
MOST_SOAKS = 6


def next_on_engine(state: SweepState, start: PointStart, measured: Mapping[int, MeasuredPoint]) -> Step | None:
    """The next step on the engine of a start; None when it has nothing more to tell."""
    if judge_health(start.point, state.starts).trouble is not None or start.died is not None:
        return None
    step = _measure(state, start, measured) or _measure_loads(state, start)
    return step or _soak(state, start, measured)


def _measure(state: SweepState, start: PointStart, measured: Mapping[int, MeasuredPoint]) -> Measure | None:
    concurrency = state.task.goal.concurrency
    taken, clean = start.at(concurrency), start.clean(concurrency)
    if len(taken) >= MOST_RUNS:
        return None
    speeds = [speed.tokens_per_second for speed in clean]
    if not taken:
        reason = "its first measurement"
    elif taken[-1].is_spoilt:
        reason = "the last measurement was spoilt"
    elif taken[-1].failed:
        reason = f"{taken[-1].failed} of {taken[-1].requests} requests of the last measurement failed"
    elif len(speeds) < CLEAN_RUNS:
        reason = "a first measurement may be a warm-up"
    elif len(speeds) < CLOSE_RUNS and (max(speeds) - min(speeds)) > AGREEING * max(speeds):
        reason = "the measurements so far differ by more than 8 %"
    else:
        noise = measurement_noise(state.starts, concurrency)
        error = noise / math.sqrt(len(speeds))
        is_close = mean(speeds) >= (1 - CLOSE - 2 * error) * _best(state, measured, start.point)
        if not is_close or error <= SURE:
            return None
        reason = f"it is nearly the best, and its speed is known to {error:.1%} only"
    return Measure(start.point, concurrency, reason)


def _measure_loads(state: SweepState, start: PointStart) -> Measure | None:
    for load in state.task.loads:
        if not start.at(load):
            return Measure(start.point, load, "another load of the grid, without another start")
    return None


def _best(state: SweepState, measured: Mapping[int, MeasuredPoint], but: int) -> float:
    """The best speed of another point that may be the pick."""
    return max((x.speed for x in candidates(measured, state.task.goal) if x.point != but), default=0.0)


def _soak(state: SweepState, start: PointStart, measured: Mapping[int, MeasuredPoint]) -> Soak | None:
    own = measured.get(start.point)
    if own is None or breaks_constraint(own, state.task.goal) is not None:
        return None
    if start.soaks and is_suspicious(start.point, state.starts) and len(start.soaks) < MOST_SOAKS:
        return Soak(start.point, "its memory grew in the last soak: is it a leak?")
    if start.is_confirming:
        return _soak_to_confirm(state, start, own)
    if own.health.soaks:
        return None
    soaked = [x for x in candidates(measured, state.task.goal) if x.health.soaks and x.point != start.point]
    best = max((x.speed for x in soaked), default=0.0)
    if own.speed < CONTENDING * best:
        return None
    return Soak(start.point, "it is the fastest so far" if own.speed >= best else "it is nearly the fastest so far")


def _soak_to_confirm(state: SweepState, start: PointStart, own: MeasuredPoint) -> Soak | None:
    is_wary = any(judge_health(point, state.starts).trouble for point in {x.point for x in state.starts})
    wanted = WARY_SOAKS if is_wary else CONFIRMING_SOAKS
    bound = own.health.bound
    is_wide = bound is None or bound > state.task.goal.failure_bound
    is_last = own.confirming >= 2
    if len(start.soaks) < wanted:
        return Soak(start.point, f"soak {len(start.soaks) + 1} of {wanted} of a confirming start")
    if is_last and is_wide and len(start.soaks) < MOST_SOAKS:
        return Soak(start.point, f"the bound on its failures is not below {state.task.goal.failure_bound:.2%} yet")
    return None
