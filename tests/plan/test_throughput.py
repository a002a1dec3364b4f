"""Predicted speed: against timed launches on H200 cards, and how it must move."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.hybrid.predict import Speed, predict_speeds, read_data
from bench.hybrid.table import render_bus, render_sizes, render_speeds, render_summary
from nexus_orch.plan.make import make_plan
from nexus_orch.types import COPY_RATE, GIB, READ_RATE, Lesson, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

DENSE_14B, EXPERTS = "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3-30B-A3B"
MEASUREMENTS = Path(__file__).parents[2] / "docs" / "measurements.md"


@cache
def _speeds() -> tuple[Speed, ...]:
    return tuple(predict_speeds(read_data()))


def _of(backend: str | None, *, several: bool) -> list[float]:
    found = [speed for speed in _speeds() if speed.backend == backend and (speed.requests > 1) == several]
    return sorted(abs(speed.error) for speed in found)


@pytest.mark.parametrize(
    ("backend", "several", "median", "worst"),
    [("prefetch", False, 0.025, 0.09), ("prefetch", True, 0.02, 0.13), ("uva", False, 0.05, 0.4)],
)
def test_timed_launches_are_predicted(backend: str, several: bool, median: float, worst: float) -> None:
    errors = _of(backend, several=several)
    assert len(errors) >= 24
    assert errors[len(errors) // 2] <= median
    assert errors[-1] <= worst


def test_dense_models_read_in_place_are_predicted() -> None:
    """Of what was not warm while it was timed, the experts' kernels, nothing is asked here."""
    errors = [
        abs(speed.error)
        for speed in _speeds()
        if speed.backend == "uva" and speed.case.startswith(("qwen7b", "qwen14b", "qwen32b"))
    ]
    assert len(errors) == 36
    assert sorted(errors)[len(errors) // 2] <= 0.045
    assert max(errors) <= 0.2


def test_warm_experts_are_predicted() -> None:
    errors = [abs(speed.error) for speed in _speeds() if speed.case == "qwen3_30b_a3b/75/uva/eager"]
    assert len(errors) == 4
    assert max(errors) <= 0.05


def test_the_documented_tables_are_those_of_the_data() -> None:
    text = MEASUREMENTS.read_text(encoding="utf-8")
    data = read_data()
    expected = {
        "sizes": render_sizes(data),
        "speeds": f"{render_speeds(_speeds())}\n{render_summary(_speeds())}",
        "bus": render_bus(data),
    }
    for name, table in expected.items():
        found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
        assert found is not None
        assert found[1].strip() == table.strip()


def _plan(model: str, *lessons: Lesson, bus: float | None = 25e9, settings: Mapping[str, object] | None = None) -> Plan:
    facts = make_facts(model, make_gpu(host_bandwidth_bytes_per_second=bus), version="0.25.1", ram_gib=256)
    return make_plan(make_spec({"memory.strategy": "hybrid", **(settings or {})}), facts, LOADERS, lessons)


def _with_workload(plan: Plan, model: str, requests: int) -> Plan:
    spec = replace(plan.spec, workload=replace(plan.spec.workload, concurrency=requests))
    facts = make_facts(model, make_gpu(host_bandwidth_bytes_per_second=25e9), version="0.25.1", ram_gib=256)
    return make_plan(spec, facts, LOADERS)


@pytest.mark.parametrize("model", [DENSE_14B, EXPERTS])
@given(slower=st.floats(5e9, 30e9), factor=st.floats(1.05, 4))
def test_a_faster_bus_is_never_slower(model: str, slower: float, factor: float) -> None:
    before, after = _plan(model, bus=slower).prediction, _plan(model, bus=slower * factor).prediction
    assert before.decode_tokens_per_second is not None
    assert after.decode_tokens_per_second is not None
    assert after.decode_tokens_per_second >= before.decode_tokens_per_second


def test_what_the_bus_was_measured_at_replaces_its_link() -> None:
    settings = {"memory.offload_backend": "prefetch"}
    guessed = _plan(DENSE_14B, settings=settings).prediction.decode_tokens_per_second
    measured = _plan(DENSE_14B, Lesson(f"{COPY_RATE}.0", 12_500_000_000, "measured"), settings=settings)
    assert guessed is not None
    assert measured.prediction.decode_tokens_per_second == pytest.approx(guessed / 2, rel=0.02)


def test_reading_in_place_has_a_rate_of_its_own() -> None:
    settings = {"memory.offload_backend": "uva"}
    copied = _plan(DENSE_14B, Lesson(f"{COPY_RATE}.0", 25_000_000_000, "measured"), settings=settings)
    read = _plan(DENSE_14B, Lesson(f"{READ_RATE}.0", 10_000_000_000, "measured"), settings=settings)
    assert (read.prediction.decode_tokens_per_second or 0) < 0.5 * (copied.prediction.decode_tokens_per_second or 0)


def test_without_a_known_bus_nothing_is_said_about_offloaded_speed() -> None:
    prediction = _plan(DENSE_14B, bus=None).prediction
    assert prediction.decode_tokens_per_second is None
    assert prediction.tokens_per_second is None


def test_prefetch_serves_sixteen_requests_nearly_as_fast_each_as_one() -> None:
    plan = _plan(DENSE_14B, settings={"memory.offload_backend": "prefetch", "model.max_model_len": 4096})
    many = _with_workload(plan, DENSE_14B, 16)
    one = plan.prediction.decode_tokens_per_second or 0.0
    together = many.prediction.tokens_per_second or 0.0
    assert many.prediction.requests_at_once > 4
    share = sum(card.offloaded_bytes for card in plan.per_gpu) / sum(card.offloaded_bytes for card in many.per_gpu)
    assert together > 0.6 * many.prediction.requests_at_once * one * share


def test_more_requests_use_more_experts() -> None:
    """Read in place, a step of one request brings 8 of 128 experts, a step of 16 about two thirds of them."""
    plan = _plan(EXPERTS, settings={"memory.offload_backend": "uva", "memory.cpu_offload_gib": 45.0})
    assert sum(card.offloaded_bytes for card in plan.per_gpu) > 40 * GIB
    one = plan.prediction
    many = _with_workload(plan, EXPERTS, 16).prediction
    assert one.decode_tokens_per_second is not None
    assert many.tokens_per_second is not None
    assert many.requests_at_once == 16
    assert one.decode_tokens_per_second < many.tokens_per_second < 8 * one.decode_tokens_per_second


def test_the_first_token_waits_for_the_prompt() -> None:
    short = _plan(DENSE_14B, settings={"memory.offload_backend": "uva"})
    spec = replace(short.spec, workload=replace(short.spec.workload, input_tokens=4000))
    facts = make_facts(DENSE_14B, make_gpu(host_bandwidth_bytes_per_second=25e9), version="0.25.1", ram_gib=256)
    long = make_plan(spec, facts, LOADERS)
    assert (long.prediction.time_to_first_token_seconds or 0) > 4 * (short.prediction.time_to_first_token_seconds or 1)


def test_a_workload_that_the_model_cannot_take_is_told() -> None:
    plan = _plan(DENSE_14B)
    spec = replace(plan.spec, workload=replace(plan.spec.workload, input_tokens=100_000_000))
    facts = make_facts(DENSE_14B, make_gpu(), version="0.25.1", ram_gib=256)
    longer = make_plan(spec, facts, LOADERS)
    assert any("100,000,256 tokens" in note for note in longer.notes)
    assert longer.prediction.time_to_first_token_seconds is None
    assert longer.prediction.tokens_per_second is None
    assert longer.prediction.decode_tokens_per_second == pytest.approx(
        plan.prediction.decode_tokens_per_second or 0, rel=0.5
    )


def test_the_slowest_card_of_a_stage_decides() -> None:
    """Tensor parallelism waits for every rank, whichever of them comes first."""
    slow, fast = (make_gpu(host_bandwidth_bytes_per_second=rate) for rate in (6e9, 25e9))
    settings = {"memory.strategy": "hybrid", "memory.offload_backend": "prefetch", "serve.tensor_parallel": 2}
    spec = make_spec({**settings, "memory.cpu_offload_gib": 4.0})
    speeds = [
        make_plan(
            spec, make_facts(DENSE_14B, *cards, version="0.25.1", ram_gib=256), LOADERS
        ).prediction.decode_tokens_per_second
        for cards in ((slow, fast), (fast, slow), (slow, slow), (fast, fast))
    ]
    assert speeds[0] == speeds[1] == speeds[2]
    assert (speeds[3] or 0) > 3 * (speeds[2] or 0)
