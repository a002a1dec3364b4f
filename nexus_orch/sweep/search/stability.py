"""Whether a point is stable: what soaks and measurements say of failures, deaths and leaks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

from nexus_orch.sweep.search.chances import believe_chance
from nexus_orch.sweep.search.space import Array, Space
from nexus_orch.sweep.search.state import PointStart
from nexus_orch.sweep.types import Soaked

CONFIDENCE = 0.95
LEAK_FLOOR = 4 * 1024**2
"""Bytes an hour below which a slope is none: a hundred MiB in a day."""
COMMON_DRIFT = 16 * 1024**2
"""Bytes an hour that all soaks may share: what the machine does besides, no leak of a point's own."""
SURE_LEAK = 64 * 1024**2
"""Bytes an hour that are a leak even where a single soak of a point tells no error."""
STANDARD_ERRORS = 2.5
"""A mean slope of more standard errors is a leak."""
DOUBTED_ERRORS = 1.5
"""A mean slope of fewer standard errors is none."""
EXPECTED_SLOPE_NOISE = 12 * 1024**2
"""The standard deviation of a soak's slope in bytes an hour before any was repeated."""
EXPECTED_COUNT = 2
"""How many repeats that expectation is worth."""
FEWEST_TO_JUDGE, MOST_BROKEN = 4, 0.6
"""Of this many measured points, a larger share with failed requests is no point's own doing."""
USUALLY_STABLE = 0.9
DOUBT_OF_GOOD = 0.35
"""How little a soak without a finding says: what fails seldom is found by every second or third."""


@dataclass(frozen=True)
class Health:
    """What is known of a point's stability."""

    failed: int
    requests: int
    soaks: int
    trouble: str | None
    """Why the point is not stable; None where nothing speaks against it."""

    @property
    def bound(self) -> float | None:
        """The share of failing requests that is not exceeded, with 95 % confidence; None before a soak."""
        return failure_bound(self.failed, self.requests)


def failure_bound(failed: int, requests: int) -> float | None:
    """The upper end of Clopper and Pearson's one-sided interval for the share of failures."""
    if requests <= 0:
        return None
    if failed == 0:
        return float(1 - (1 - CONFIDENCE) ** (1 / requests))
    from scipy.stats import beta  # noqa: PLC0415 - a sweep without failures does not need it

    return 1.0 if failed >= requests else float(beta.ppf(CONFIDENCE, failed + 1, requests - failed))


def judge_health(point: int, starts: Sequence[PointStart]) -> Health:
    """The health of a point, in the light of all starts: what slope every soak shows is no leak of one."""
    own = [start for start in starts if start.point == point]
    soaks = [soak for start in own for soak in start.soaks]
    failed = sum(soak.failed for soak in soaks)
    requests = sum(soak.requests for soak in soaks)
    return Health(failed, requests, len(soaks), _find_trouble(own, soaks, failed, requests, starts))


def _find_trouble(
    own: Sequence[PointStart], soaks: Sequence[Soaked], failed: int, requests: int, starts: Sequence[PointStart]
) -> str | None:
    death = next((soak.died_at_tokens for soak in soaks if soak.died_at_tokens is not None), None)
    if death is not None:
        return f"its engine died at {death:,} accumulated tokens"
    if failed:
        return f"{failed} of {requests:,} requests of its soak failed"
    died = next((start.died for start in own if start.died is not None), None)
    if died is not None:
        return f"its engine ended while it was measured: {died}"
    broken = sum(speed.failed for start in own for speed in start.speeds)
    if broken and not _all_fail(starts):
        return f"{broken} requests of its measurements failed"
    leak = _find_leak(soaks, starts)
    return None if leak is None else f"its memory grows by {leak / 1024**2:.0f} MiB an hour"


def _all_fail(starts: Sequence[PointStart]) -> bool:
    """Whether requests fail at most points: then it is the client or the machine, and no point's own."""
    measured = {start.point for start in starts if start.speeds}
    broken = {start.point for start in starts for speed in start.speeds if speed.failed}
    return len(measured) >= FEWEST_TO_JUDGE and len(broken) > MOST_BROKEN * len(measured)


def _find_leak(soaks: Sequence[Soaked], starts: Sequence[PointStart]) -> float | None:
    """The slope of a point's memory in bytes an hour, where it is beyond its error and its like is not everywhere."""
    slope, errors = _slope_in_errors(soaks, starts)
    return slope if slope >= LEAK_FLOOR and (errors > STANDARD_ERRORS or slope > SURE_LEAK) else None


def _slope_in_errors(soaks: Sequence[Soaked], starts: Sequence[PointStart]) -> tuple[float, float]:
    """The mean slope of a point's memory less what all soaks share, in bytes an hour and in its standard errors."""
    slopes = _slopes(soaks)
    if not slopes:
        return 0.0, 0.0
    slope = mean(slopes) - _common_drift(starts)
    return slope, slope / _slope_error(soaks, starts)


def is_suspicious(point: int, starts: Sequence[PointStart]) -> bool:
    """Whether a point's memory grew in its soaks, and only another one can tell whether it leaks."""
    soaks = [soak for start in starts if start.point == point for soak in start.soaks]
    slope, errors = _slope_in_errors(soaks, starts)
    return slope >= LEAK_FLOOR and errors > DOUBTED_ERRORS


def _slopes(soaks: Sequence[Soaked]) -> list[float]:
    return [x.memory_slope_bytes_per_hour for x in soaks if x.memory_slope_bytes_per_hour is not None]


def _common_drift(starts: Sequence[PointStart]) -> float:
    by_point = slopes_by_point(starts)
    if len(by_point) < 2:
        return 0.0
    return min(max(0.0, min(mean(slopes) for slopes in by_point.values())), COMMON_DRIFT)


def slopes_by_point(starts: Sequence[PointStart]) -> Mapping[int, list[float]]:
    found: dict[int, list[float]] = {}
    for start in starts:
        if slopes := _slopes(start.soaks):
            found.setdefault(start.point, []).extend(slopes)
    return found


def _slope_error(soaks: Sequence[Soaked], starts: Sequence[PointStart]) -> float:
    """The standard error of a point's mean slope: as the soaks tell it, else as repeated soaks of any point differ."""
    told = [x.memory_slope_error for x in soaks if x.memory_slope_error is not None]
    count = len(_slopes(soaks))
    if told and len(told) == count:
        return max(1.0, math.sqrt(sum(error**2 for error in told)) / count)
    repeated = [slopes for slopes in slopes_by_point(starts).values() if len(slopes) > 1]
    total = EXPECTED_SLOPE_NOISE**2 * EXPECTED_COUNT + sum(stdev(x) ** 2 * (len(x) - 1) for x in repeated)
    degrees = EXPECTED_COUNT + sum(len(slopes) - 1 for slopes in repeated)
    return math.sqrt(total / degrees / count)


def believe_stable(space: Space, starts: Sequence[PointStart]) -> Array:
    """The chance that each point is stable, by rows of the space, from those that were soaked.

    How much KV cache the plan sees counts as a setting: engines that die at accumulated tokens have little of it.
    """
    shown: dict[int, float] = {}
    doubts: dict[int, float] = {}
    for point in dict.fromkeys(start.point for start in starts):
        health = judge_health(point, starts)
        if health.soaks or health.trouble is not None:
            row = space.row[point]
            shown[row] = 1.0 if health.trouble is None else 0.0
            doubts[row] = DOUBT_OF_GOOD / math.sqrt(max(1, health.soaks)) if health.trouble is None else 0.05
    tokens = [0 if point.prior is None else point.prior.kv_cache_tokens for point in space.points]
    ranks = np.argsort(np.argsort(tokens)) / max(1, len(tokens) - 1)
    return believe_chance(np.column_stack([space.places, ranks]), shown, USUALLY_STABLE, doubts)
