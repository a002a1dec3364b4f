"""The guidance tables: what they say is what the planner says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from nexus_orch import shipped
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.profiles import read_machines, read_models
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.nearby.guide import RECOMMENDED_MACHINES, make_guide
from nexus_orch.plan.nearby.guide_rows import Guide, Machine
from nexus_orch.types import GIB, Facts, MemorySpec, ModelFacts, ModelSpec, Plan, RunSpec
from nexus_orch.view.guide import WIDTH, render_guide
from tests.plan.cases import LOADERS

MODELS, MACHINES = read_models([shipped.conf_dir()]), read_machines([shipped.conf_dir()])


@cache
def _guide() -> Guide:
    return make_guide(MODELS, MACHINES, make_assumed_engine(), LOADERS)


def _plan(model: ModelFacts, machine: str, strategy: str = "vram_only") -> Plan:
    spec = RunSpec(name="t", model=ModelSpec(name=model.name), memory=MemorySpec(strategy=strategy))
    return make_plan(spec, Facts(model, MACHINES[machine], make_assumed_engine()), LOADERS)


def _memory(machine: Machine | None) -> int:
    return 10**15 if machine is None else machine.cards * machine.card_bytes


def test_sizes_grow_with_parameters_and_shrink_with_bits() -> None:
    rows = _guide().sizes
    assert {row.weights for row in rows} == {"bf16", "fp8", "awq"}
    for plain, eight, four in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert plain.weights_bytes > eight.weights_bytes > four.weights_bytes > plain.weights_bytes / 4
        assert _memory(plain.least) >= _memory(eight.least) >= _memory(four.least)
    plains = rows[::3]
    assert [row.parameters for row in plains] == sorted(row.parameters for row in plains)
    assert plains[0].parameters < 8e9
    assert plains[-1].parameters > 70e9


def test_the_least_machine_fits_and_no_smaller_one_does() -> None:
    row = next(row for row in _guide().sizes if row.weights == "bf16" and row.parameters > 30e9)
    model = MODELS[row.model]
    assert row.least is not None
    assert row.comfortable is not None
    assert _plan(model, row.least.name).fits
    assert _plan(model, row.comfortable.name).max_model_len >= 32768
    for name, machine in MACHINES.items():
        if sum(gpu.total_bytes for gpu in machine.gpus) < _memory(row.least) - GIB:
            smaller = _plan(model, name)
            assert not smaller.fits or smaller.prediction.borderline


def test_the_breakdown_is_a_plans() -> None:
    breakdown = _guide().breakdown
    assert breakdown is not None
    assert 30e9 < 2 * breakdown.weights_bytes / 4 < 35e9
    assert breakdown.kv_cache_bytes["32768"] == pytest.approx(16 * breakdown.kv_cache_bytes["2048"], rel=1e-6)
    assert breakdown.total_bytes < MACHINES[breakdown.machine].gpus[0].total_bytes


def test_the_largest_recommended_model_fits_and_no_larger_one_does() -> None:
    rows = _guide().recommended
    assert [row.machine for row in rows] == [name for name in RECOMMENDED_MACHINES for _ in range(2)]
    row = next(row for row in rows if row.machine == "rtx4090" and row.weights == "bf16")
    plan = _plan(MODELS[row.model], "rtx4090")
    assert plan.fits
    assert plan.max_model_len == row.max_model_len
    larger = _plan(MODELS["qwen14b"], "rtx4090")
    assert not larger.fits or larger.max_model_len < 8192


def test_the_offload_table_says_how_much_ram_it_takes() -> None:
    plain, eight, four = _guide().offload
    assert plain.host_ram_bytes > plain.pinned_bytes > plain.offloaded_bytes > 100 * GIB
    assert plain.offloaded_bytes > eight.offloaded_bytes > four.offloaded_bytes
    assert (plain.decode_tokens_per_second or 0) < (four.decode_tokens_per_second or 0)


def test_it_is_readable_in_eighty_columns() -> None:
    text = render_guide(_guide())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(line == line.rstrip() for line in text.splitlines())
    guide = _guide()
    names = [row.model for row in guide.sizes] + [row.model for row in guide.recommended]
    assert all(name in text for name in names + [row.model for row in guide.offload])


def test_other_profiles_make_another_guide() -> None:
    few = {"odd": ModelFacts("odd", None, {"model_type": "brand_new"}, "profile")}
    few |= {name: model for name, model in MODELS.items() if name.startswith("qwen7b")}
    one = {"mine": replace(MACHINES["rtx4090"], name="mine")}
    guide = make_guide(few, one, make_assumed_engine(), LOADERS)
    assert {row.model for row in guide.sizes} == {"qwen7b"}
    assert {row.least.name for row in guide.sizes if row.least is not None} == {"mine"}
    assert guide.recommended == ()
    assert guide.offload == ()
    assert "qwen7b" in render_guide(guide)
    assert make_guide({}, one, make_assumed_engine(), LOADERS).breakdown is None
