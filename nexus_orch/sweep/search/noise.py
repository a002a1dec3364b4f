"""How much measurements of one engine differ, learned from all repeats of the sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from nexus_orch.sweep.search.state import PointStart

EXPECTED = 0.04
"""The standard deviation of a measurement, as a share, before any was repeated: vLLM's own benchmark on one engine."""
EXPECTED_COUNT = 4
"""How many repeats that expectation is worth."""
OF_STARTS = 0.015
"""What two starts of one command differ by besides: clocks, compiled kernels, neighbours."""


def measurement_noise(starts: Sequence[PointStart], concurrency: int) -> float:
    """The standard deviation of one measurement, as a share of the speed."""
    total, degrees = EXPECTED**2 * EXPECTED_COUNT, float(EXPECTED_COUNT)
    for start in starts:
        logs = [math.log(speed.tokens_per_second) for speed in start.clean(concurrency)]
        if len(logs) > 1:
            middle = mean(logs)
            total += sum((x - middle) ** 2 for x in logs)
            degrees += len(logs) - 1
    return math.sqrt(total / degrees)


def standard_error(noise: float, measurements: int, starts: int) -> float:
    """The standard error of a point's speed, as a share."""
    return math.sqrt(noise**2 / max(1, measurements) + OF_STARTS**2 / max(1, starts))
