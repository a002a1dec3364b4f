"""The planner's error on real launches. See bench/planner.py for the table."""

from __future__ import annotations

import statistics

import pytest

from nexus_orch.types import GIB
from tests.plan.cases import kv_gib, launches, plan_launch

SERVED = [launch for launch in launches() if launch["measured"]["kv_cache_gib"] > 0.5]


def _errors(*, fitted: bool | None = None) -> list[float]:
    chosen = [launch for launch in SERVED if fitted is None or bool(launch["fitted"]) is fitted]
    return sorted(abs(kv_gib(plan_launch(launch)) / launch["measured"]["kv_cache_gib"] - 1) for launch in chosen)


def test_at_least_a_third_is_held_out() -> None:
    assert sum(1 for launch in launches() if launch["fitted"] is None) * 3 >= len(launches())


@pytest.mark.parametrize("fitted", [None, False])
def test_half_within_three_percent_and_nine_of_ten_within_eight(fitted: bool | None) -> None:
    errors = _errors(fitted=fitted)
    assert statistics.median(errors) <= 0.03
    assert errors[round(0.9 * len(errors)) - 1] <= 0.08


def test_every_verdict_is_right() -> None:
    for launch in launches():
        assert plan_launch(launch).fits == (not launch["measured"].get("failed", False)), launch["name"]


def test_the_range_holds_nine_of_ten() -> None:
    inside = 0
    for launch in SERVED:
        plan = plan_launch(launch)
        low, high = plan.prediction.kv_cache_tokens_low, plan.prediction.kv_cache_tokens_high
        assert low is not None and high is not None
        measured = launch["measured"]["kv_cache_gib"] / (plan.per_gpu[0].kv_cache_bytes / GIB) * plan.kv_cache_tokens
        inside += low <= measured * 1.002 and measured <= high * 1.002
    assert inside >= 0.9 * len(SERVED)


@pytest.mark.parametrize(
    ("name", "key", "tolerance"),
    [
        ("q7_default", "c1_in128_out64", 0.05),
        ("A1_qwen3-8b_graph", "c1_128_32", 0.1),
        ("q14_uva_16.5", "c1_in128_out16", 0.08),
        ("H1_uva6_eager", "c1_128_16", 0.1),
        ("H2_prefetch_4_2_1_eager", "c1_128_16", 0.08),
    ],
)
def test_one_request_decodes_as_fast_as_predicted(name: str, key: str, tolerance: float) -> None:
    launch = next(launch for launch in launches() if launch["name"] == name)
    predicted = plan_launch(launch).prediction.decode_tokens_per_second
    assert predicted == pytest.approx(launch["measured"]["tokens_per_second"][key], rel=tolerance)


@pytest.mark.parametrize("name", ["q14_uva_16.5", "H1_uva6_eager", "H2_prefetch_4_2_1_eager"])
def test_offload_and_host_memory_are_predicted(name: str) -> None:
    launch = next(launch for launch in launches() if launch["name"] == name)
    plan, measured = plan_launch(launch), launch["measured"]
    assert plan.per_gpu[0].offloaded_bytes / GIB == pytest.approx(measured["offloaded_gib"], rel=0.01)
    growth = plan.host.required_bytes - plan.host.loading_bytes
    assert growth / GIB == pytest.approx(measured["host_ram_growth_gib"], rel=0.08)
