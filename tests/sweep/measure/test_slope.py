"""A line through memory: right on what grows, sure of nothing on noise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.sweep.measure.slope import BLOCKS, failure_bound, fit_slope, render_bound


@given(st.floats(-1e9, 1e9), st.floats(0, 1e12), st.integers(2 * BLOCKS, 400))
def test_a_straight_line_is_found(per_hour: float, level: float, count: int) -> None:
    slope = fit_slope([(float(second), level + per_hour * second / 3600) for second in range(count)])
    assert slope is not None
    assert slope.per_hour == pytest.approx(per_hour, rel=1e-3, abs=1e-2 * (1 + level / 1e6))


def test_noise_is_a_leak_about_as_seldom_as_its_error_says() -> None:
    dice = random.Random(7)
    alarms = 0
    for _ in range(400):
        level, series = 0.0, []
        for second in range(240):
            level = 0.8 * level + dice.gauss(0, 1)  # neighbours are alike, as memory is
            series.append((float(second), 1e9 + 1e6 * level))
        slope = fit_slope(series)
        assert slope is not None
        alarms += slope.per_hour > 3 * slope.error
    assert alarms <= 400 * 0.03


def test_too_few_samples_say_nothing() -> None:
    assert fit_slope([(float(second), 1.0) for second in range(2 * BLOCKS - 1)]) is None
    assert fit_slope([(5.0, float(value)) for value in range(100)]) is None


def test_the_bound_is_told_as_the_record_keeps_it() -> None:
    assert render_bound(0, 1240) == "0 of 1,240 requests failed: below 0.24 % with 95 % confidence"
    assert render_bound(3, 1240) == "3 of 1,240 requests failed"
    assert failure_bound(0) is None
    assert failure_bound(1) == pytest.approx(0.95)
