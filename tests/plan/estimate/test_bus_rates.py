"""Rates of the bus: what was measured of a layer holds for that layer, and in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.plan.asked.fixed import FixedSettings
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.estimate.bus_rates import BusRates, interpolate, layer_matrices, read_rates
from nexus_orch.types import COPY_RATE, LAYER_READS, READ_RATE, LayerRead, Lesson
from tests.plan.cases import make_facts, make_gpu, make_spec

SHAPES = ((4608, 3584), (3584, 3584), (37888, 3584), (3584, 18944))
RATES = ((1, 34e9), (16, 41e9), (2048, 6e9))
"""About those of Qwen2.5-7B on an H200 (bench/data/hybrid_h200.json)."""
LESSONS = (
    Lesson(f"{COPY_RATE}.0", 55_000_000_000, "measured"),
    Lesson(f"{READ_RATE}.0", 49_000_000_000, "measured"),
    Lesson(f"{LAYER_READS}.0", (LayerRead(SHAPES, RATES),), "measured"),
)
CARD = make_gpu(host_bandwidth_bytes_per_second=25e9)


def test_the_measured_layer_is_recognized_by_its_matrices() -> None:
    fixed = FixedSettings(make_spec(), LESSONS)
    assert read_rates(fixed, CARD, SHAPES).layer == LayerRead(SHAPES, RATES)
    assert read_rates(fixed, CARD, SHAPES[:2]).layer is None
    assert read_rates(fixed, CARD, ()).layer is None


def test_the_users_own_figure_stands_before_all_measurements() -> None:
    spec = make_spec()
    gpu = replace(spec.hardware.gpu, pcie_gbps=20.0)
    fixed = FixedSettings(replace(spec, hardware=replace(spec.hardware, gpu=gpu)), LESSONS)
    rates = read_rates(fixed, CARD, SHAPES)
    assert (rates.copy, rates.layer) == (25e9, None)


@pytest.mark.parametrize(("tokens", "rate"), [(1, 34e9), (16, 41e9), (2048, 6e9), (4096, 3e9)])
def test_measured_points_are_met_and_longer_passes_read_again(tokens: int, rate: float) -> None:
    assert interpolate(dict(RATES), tokens) == pytest.approx(rate)


def test_a_layer_that_was_measured_with_few_tokens_only() -> None:
    assert interpolate({1: 34e9, 16: 41e9}, 500) == 41e9


@given(st.integers(16, 16_384), st.integers(16, 16_384))
def test_a_longer_pass_never_reads_the_same_weights_sooner(one: int, other: int) -> None:
    """Among few tokens it may: another kernel is taken, which gets more of the bus."""
    for rates in (BusRates(55e9, 49e9, LayerRead(SHAPES, RATES)), BusRates(55e9, 49e9)):
        fewer, more = sorted((one, other))
        assert (rates.read_seconds(10**9, fewer) or 0) <= (rates.read_seconds(10**9, more) or 0) * (1 + 1e-9)


def test_only_plain_16_bit_layers_are_known_by_their_matrices() -> None:
    for model, dtype, known in (
        ("Qwen/Qwen2.5-7B-Instruct", "bfloat16", True),
        ("Qwen/Qwen2.5-7B-Instruct", "float32", False),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "float16", False),
        ("Qwen/Qwen3-30B-A3B", "bfloat16", False),
    ):
        spec = make_spec({"model.dtype": dtype})
        layout = read_inputs(spec, make_facts(model, CARD), ()).weight_layout(1, 1, whole_segments=True)
        assert bool(layer_matrices(layout)) is known, model
    halved = read_inputs(make_spec(), make_facts("Qwen/Qwen2.5-7B-Instruct", CARD), ())
    assert layer_matrices(halved.weight_layout(1, 1, whole_segments=True)) == SHAPES
    assert layer_matrices(halved.weight_layout(2, 1, whole_segments=True))[0] == (2304, 3584)


def test_without_a_bus_nothing_is_said() -> None:
    gpu = make_gpu(host_bandwidth_bytes_per_second=None)
    rates = read_rates(FixedSettings(make_spec()), gpu, SHAPES)
    assert (rates.copy, rates.read, rates.read_seconds(10**9, 1)) == (None, None, None)
