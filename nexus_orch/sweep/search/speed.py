"""What is believed of the speed of every point: the plan's figure, and what the starts so far say about its error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nexus_orch.sweep.search.regression import Effects, learn
from nexus_orch.sweep.search.space import Array, Space

MOST_SERVED = 16
POINTS_TO_JUDGE = 6
"""MeasuredPoint points after which the plan's ranking is judged."""
EFFECTS_ON_PLAN = Effects(constant=0.3, single=0.12, pairs=0.08, everything=0.08, plan=0.15, own=0.015)
"""Effects on the logarithm of measured over planned speed: plans are 25 % off (docs/planner.md), mostly by one
setting."""
EFFECTS_ALONE = Effects(constant=0.3, single=0.25, pairs=0.1, everything=0.08, plan=0.15, own=0.015)
"""Effects on the logarithm of the speed itself, where the plan's figures are left out."""
HELD_RANKING = 0.25
"""The rank correlation of measured and planned speeds below which the plan's figures are left out."""


@dataclass(frozen=True)
class Belief:
    """Mean and standard deviation of the logarithm of each point's speed, by rows of the space."""

    mean: Array
    deviation: Array
    uses_plan: bool
    left_out: Mapping[int, tuple[float, float]]
    """By measured row, mean and deviation that the other points let expect."""
    correlation: float | None
    """The rank correlation of planned and measured speeds; None before it says anything."""


def believe_speed(space: Space, measured: Mapping[int, float], errors: Mapping[int, float]) -> Belief:
    """The belief after these speeds were measured (tokens/s by point), with their standard errors as shares."""
    planned = plan_speeds(space)
    if not measured:
        return Belief(planned, np.full(len(planned), 0.3), True, {}, None)
    rows = np.array([space.row[point] for point in measured])
    logs = np.log(np.array(list(measured.values())))
    correlation = _correlate(planned[rows], logs)
    uses_plan = correlation is None or correlation >= HELD_RANKING
    slope = (planned - planned.mean()) / max(0.05, float(planned.std()))
    base = planned if uses_plan else np.zeros_like(planned)
    residual = logs - base[rows]
    centre = float(np.median(residual))
    found = learn(
        space.places,
        dict(zip(rows.tolist(), (residual - centre).tolist(), strict=True)),
        EFFECTS_ON_PLAN if uses_plan else EFFECTS_ALONE,
        plan=slope,
        errors=[errors[point] for point in measured],
        fits=True,
    )
    left_out = {row: (float(base[row]) + centre + mean, error) for row, (mean, error) in found.left_out.items()}
    return Belief(base + centre + found.mean, found.deviation, uses_plan, left_out, correlation)


def plan_speeds(space: Space) -> Array:
    """The logarithm of each planned speed; the median where the plan says none. Where it says none at all, points that
    serve more requests at once are taken to be a little faster."""
    priors = [point.prior for point in space.points]
    known = [math.log(prior.tokens_per_second) for prior in priors if prior is not None and prior.tokens_per_second]
    if not known:
        served = [1 if prior is None else min(MOST_SERVED, max(1, prior.most_requests)) for prior in priors]
        by_served: Array = np.log(np.array(served, dtype=float)) / 2
        return by_served
    middle = float(np.median(known))
    return np.array([math.log(x.tokens_per_second) if x and x.tokens_per_second else middle for x in priors])


def _correlate(planned: Array, logs: Array) -> float | None:
    if len(logs) < POINTS_TO_JUDGE or np.ptp(planned) < 0.02:
        return None
    from scipy.stats import spearmanr  # noqa: PLC0415 - its import takes a second

    ranks = float(spearmanr(planned, logs).statistic)
    sizes = float(np.corrcoef(planned, logs)[0, 1])
    found = max(ranks, sizes)  # among points that the plan takes for equal, ranks are noise
    return found if np.isfinite(found) else None
