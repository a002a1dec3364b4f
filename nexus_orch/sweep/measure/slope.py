"""Whether memory grows: a straight line by least squares, and a bound on a share of failures. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

BLOCKS = 12
"""Neighbouring samples of memory are alike: a line through the means of blocks does not believe them one by one."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Slope:
    """How fast something grows, in units an hour, with the standard error of that."""

    per_hour: float
    error: float

    @property
    def significance(self) -> float:
        """The slope in standard errors."""
        return self.per_hour / self.error if self.error > 0 else math.inf * (self.per_hour > 0)


def fit_slope(samples: Sequence[tuple[float, float]]) -> Slope | None:
    """The slope of (seconds, value) in order of time; None for fewer samples than two for each block."""
    if len(samples) < 2 * BLOCKS:
        return None
    size = len(samples) / BLOCKS
    blocks = [samples[round(number * size) : round((number + 1) * size)] for number in range(BLOCKS)]
    hours = [fmean(time for time, _ in block) / 3600 for block in blocks]
    values = [fmean(value for _, value in block) for block in blocks]
    middle, level = fmean(hours), fmean(values)
    spread = sum((hour - middle) ** 2 for hour in hours)
    if spread <= 0:
        return None
    slope = sum((hour - middle) * (value - level) for hour, value in zip(hours, values, strict=True)) / spread
    left = sum((value - level - slope * (hour - middle)) ** 2 for hour, value in zip(hours, values, strict=True))
    return Slope(slope, math.sqrt(left / (BLOCKS - 2) / spread))


def failure_bound(requests: int) -> float | None:
    """The share of failures that is not exceeded, with 95 % confidence, when none of so many requests failed."""
    return None if requests <= 0 else 1 - (1 - CONFIDENCE) ** (1 / requests)


def render_bound(failed: int, requests: int) -> str:
    """What so many requests say: "0 of 1,240 requests failed: below 0.24 % with 95 % confidence"."""
    told = f"{failed:,} of {requests:,} requests failed"
    bound = failure_bound(requests)
    return told if failed or bound is None else f"{told}: below {100 * bound:.2g} % with 95 % confidence"
