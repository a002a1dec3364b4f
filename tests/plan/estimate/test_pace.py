"""Predicted speed: against timed launches on H200 cards, and how it must move."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.hybrid.predict import Speed, predict_speeds, read_data
from bench.hybrid.table import KINDS, render_aims, render_bus, render_sizes, render_speeds, render_summary
from nexus_orch.contracts import CardPass, CardWork
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.estimate.bus_rates import BusRates, layer_matrices
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.offload.mechanisms import PREFETCH
from nexus_orch.plan.search.strategy import choose_loader
from nexus_orch.types import COPY_RATE, GIB, LAYER_READS, READ_RATE, LayerRead, Lesson, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

pytestmark = pytest.mark.slow

DENSE_14B, EXPERTS = "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3-30B-A3B"
MEASUREMENTS = Path(__file__).parents[3] / "docs" / "measurements.md"


@cache
def _speeds() -> tuple[Speed, ...]:
    return tuple(predict_speeds(read_data()))


def _of(kind: str, *, several: bool) -> list[float]:
    """The errors of what nobody disturbed."""
    found = [speed for speed in _speeds() if speed.kind == kind and (speed.requests > 1) == several]
    return sorted(abs(speed.error) for speed in found if not speed.disturbed)


@pytest.mark.parametrize(
    ("kind", "several", "count", "middle", "worst"),
    [
        ("prefetch", False, 58, 0.016, 0.09),
        ("prefetch", True, 56, 0.025, 0.34),
        ("in place, dense", False, 38, 0.04, 0.12),
        ("in place, dense", True, 38, 0.075, 0.2),
        ("in place, experts", False, 18, 0.035, 0.45),
        ("in place, experts", True, 18, 0.075, 0.5),
        ("none, CUDA graphs", False, 12, 0.03, 0.07),
        ("none, CUDA graphs", True, 11, 0.07, 0.5),
    ],
)
def test_timed_launches_are_predicted(kind: str, several: bool, count: int, middle: float, worst: float) -> None:
    """Eager without offload is the processor's speed, of which nothing is asked here."""
    errors = _of(kind, several=several)
    assert len(errors) == count
    assert median(errors) <= middle
    assert errors[-1] <= worst


@pytest.mark.parametrize(
    "case", ["qwen3_30b_a3b/75/uva/eager", "qwen3_30b_a3b/25/uva/graphs", "qwen3_30b_a3b/50/uva/graphs"]
)
def test_experts_are_predicted_whose_kernels_were_compiled_before(case: str) -> None:
    errors = [abs(speed.error) for speed in _speeds() if speed.case == case]
    assert len(errors) in (4, 8)
    assert median(errors) <= 0.05
    assert max(errors) <= 0.13


def test_the_documented_tables_are_those_of_the_data() -> None:
    text = MEASUREMENTS.read_text(encoding="utf-8")
    data = read_data()
    expected = {
        "sizes": render_sizes(data),
        "speeds": f"{render_speeds(_speeds())}\n{render_summary(_speeds())}",
        "bus": render_bus(data),
        "aims": render_aims(data, _speeds()),
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


def test_the_slowest_card_decides_by_what_was_measured_of_its_layers_too() -> None:
    settings = {"memory.strategy": "hybrid", "memory.offload_backend": "uva", "serve.tensor_parallel": 2}
    spec = make_spec({**settings, "memory.cpu_offload_gib": 4.0})
    cards = (make_gpu(index=0), make_gpu(index=1))
    facts = make_facts(DENSE_14B, *cards, version="0.25.1", ram_gib=256)
    halves = layer_matrices(read_inputs(spec, facts, ()).weight_layout(2, 1, whole_segments=True))
    speeds = []
    for rates in ((5e9, 20e9), (20e9, 5e9), (5e9, 5e9), (20e9, 20e9)):
        reads = (LayerRead(halves, ((1, rate), (16, rate), (2048, rate / 8))) for rate in rates)
        lessons = [Lesson(f"{LAYER_READS}.{card}", (read,), "measured") for card, read in enumerate(reads)]
        speeds.append(make_plan(spec, facts, LOADERS, lessons).prediction.decode_tokens_per_second)
    assert speeds[0] == speeds[1] == speeds[2]
    assert (speeds[3] or 0) > 3 * (speeds[2] or 0)


def _play(copies: Sequence[float], each: float, *, captured: bool) -> float:
    """The time of a pass in the long run, by playing what the engine does: one buffer, one copy at a time."""
    copied = [place for place, seconds in enumerate(copies) if seconds]
    now, done, ends = 0.0, copies[copied[0]], []
    for _ in range(6):
        for place in range(len(copies)):
            if copies[place]:
                now = max(now, done)  # wait_prefetch
            now += each
            if copies[place]:  # start_prefetch of the next copied layer, when this one has been computed
                following = copied[(copied.index(place) + 1) % len(copied)]
                done = now + copies[following]
        if captured:
            now = max(now, done)  # join_after_forward
        ends.append(now)
    return ends[-1] - ends[-2]


@given(
    copies=st.lists(st.sampled_from([0.0, 0.0, 0.004, 0.01, 0.05]), min_size=1, max_size=60).filter(any),
    each=st.floats(0.0004, 0.02),
    captured=st.booleans(),
)
def test_copies_ahead_take_what_playing_them_takes(copies: list[float], each: float, captured: bool) -> None:
    rate, count = 25e9, 48
    sizes = tuple(int(seconds * rate) for seconds in copies + [0.0] * (count - len(copies)))[:count]
    if not any(sizes):
        return
    played = _play([size / rate for size in sizes], each, captured=captured)
    over_bus = CardPass(1, sum(sizes), 0, 0, 1.0, sizes, BusRates(rate, rate))
    on_card = CardWork(captured, 0.0, 0, 0, 1e12, 0.0, each * count, 0.0, 0.0, 0.0)
    predicted = PREFETCH.pass_seconds(over_bus, on_card)
    assert predicted == pytest.approx(max(each * count, played), rel=1e-6)


@cache
def _settled(model: str, settings: tuple[tuple[str, Any], ...], version: str = "0.25.1") -> Settled:
    facts = make_facts(model, make_gpu(host_bandwidth_bytes_per_second=25e9), version=version, ram_gib=256)
    inputs = read_inputs(make_spec(dict(settings)), facts, ())
    parallelism = choose_parallelism(inputs)
    assert isinstance(parallelism, Parallelism)
    chosen = choose_loader(inputs, parallelism, LOADERS)
    assert chosen.trial is not None
    return chosen.trial.settled


def test_a_vision_tower_in_ram_costs_text_nothing() -> None:
    """From 0.29 on UVA moves it first."""
    settings = {"memory.strategy": "hybrid", "memory.offload_backend": "uva", "memory.cpu_offload_gib": 0.9}
    settled = _settled("Qwen/Qwen3-VL-8B-Instruct", tuple(settings.items()), version="0.33.0")
    assert settled.placement.offloaded_bytes[0] > 0.8 * GIB
    assert settled.placement.idle_bytes == settled.placement.offloaded_bytes
    assert settled.pace.bus_step_seconds() == 0


def test_the_figures_in_readme_and_guide_are_those_of_the_data() -> None:
    one, several = (_of("prefetch", several=many) for many in (False, True))
    readme = " ".join((MEASUREMENTS.parents[1] / "README.md").read_text(encoding="utf-8").split())
    assert (
        f"to one request within {median(one):.1%} (median of {len(one)} workloads, worst {one[-1]:.0%}), to 16 at once "
        f"within {median(several):.1%} (worst {several[-1]:.0%})"
    ).replace("%", " %") in readme
    guide = (MEASUREMENTS.parent / "hybrid.md").read_text(encoding="utf-8")
    for kind in KINDS[:4]:
        for errors in (_of(kind, several=many) for many in (False, True)):
            assert f"| {median(errors):.1%} | {errors[-1]:.0%} |".replace("%", " %") in guide
