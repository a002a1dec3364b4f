"""Verdicts that flip inside the range of the estimate: said, and decided for the safe side where nothing is pinned."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, Lesson, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec, plan_of

L8, SMALL = "meta-llama/Llama-3.1-8B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"
CARD = make_gpu()


def _pinned(length: int) -> Plan:
    return plan_of(L8, CARD, settings={"memory.strategy": "vram_only", "model.max_model_len": length})


def _flips() -> tuple[int, int, int]:
    """The longest contexts that fit surely, by the estimate, and at its high end."""
    sure, fits, possible = 0, 0, 0
    for length in range(16384, 65536, 512):
        plan = _pinned(length)
        if plan.fits:
            fits = length
            sure = sure if plan.prediction.borderline else length
        elif plan.prediction.borderline:
            possible = length
    return sure, fits, possible


def test_a_pinned_context_is_borderline_on_both_sides_of_the_estimate() -> None:
    sure, fits, possible = _flips()
    assert 0 < sure < fits < possible
    assert not _pinned(sure).prediction.borderline
    assert any("not at the low end" in note for note in _pinned(fits).notes)
    assert any("at the high end" in note for note in _pinned(possible).notes)
    beyond = _pinned(possible + 512)
    assert not beyond.fits
    assert not beyond.prediction.borderline
    assert not any("borderline" in note for note in beyond.notes)


def test_what_is_not_pinned_stays_on_the_safe_side() -> None:
    """The strategy is open: some weights leave the card rather than that the context may not fit."""
    _, fits, _ = _flips()
    plan = plan_of(L8, CARD, settings={"model.max_model_len": fits})
    assert plan.fits
    assert not plan.prediction.borderline
    assert plan.loader == "hybrid"


@pytest.mark.parametrize("gib", [17.9, 18.2, 18.5, 18.8, 19.1, 20.0, 22.0])
def test_a_derived_context_surely_fits(gib: float) -> None:
    card = make_gpu(total_bytes=int(gib * GIB), free_bytes=int((gib - 0.3) * GIB))
    plan = plan_of(L8, card, settings={"memory.strategy": "vram_only"})
    if plan.fits and not plan.prediction.borderline:
        settings = {"memory.strategy": "vram_only", "model.max_model_len": plan.max_model_len}
        again = plan_of(L8, card, settings=settings)
        assert again.fits
        assert not again.prediction.borderline


def test_measurements_leave_little_doubt() -> None:
    """What is borderline becomes clear once a launch has measured the activations."""
    _, fits, _ = _flips()
    pinned = make_spec({"memory.strategy": "vram_only", "model.max_model_len": fits - 1024})
    facts = make_facts(L8, CARD)
    before = make_plan(pinned, facts, LOADERS)
    measured = Lesson("measured.activation_bytes", before.per_gpu[0].activation_bytes, "measured")
    assert before.prediction.borderline
    assert not make_plan(pinned, facts, LOADERS, [measured]).prediction.borderline


@pytest.mark.parametrize("settings", [{"serve.tensor_parallel": 3}, {"memory.gpu_memory_utilization": 0.999}])
def test_a_clear_refusal_is_not_borderline(settings: dict[str, Any]) -> None:
    plan = plan_of(L8, CARD, settings=settings)
    assert not plan.fits
    assert not plan.prediction.borderline


def test_ram_that_is_just_enough_is_borderline() -> None:
    pinned = {"memory.kv_cache.size_gib": 1.0}
    needed = plan_of(SMALL, settings=pinned, ram_gib=16).host.required_bytes / GIB
    just, short = (plan_of(SMALL, settings=pinned, ram_gib=needed + more) for more in (0.05, -0.05))
    assert (just.fits, short.fits) == (True, False)
    assert just.prediction.borderline
    assert short.prediction.borderline
    free = plan_of(SMALL, ram_gib=needed + 0.05)
    assert free.fits
    assert not free.prediction.borderline
    assert free.settings["memory.kv_cache.size_gib"] < 1


def test_a_pinned_cache_is_there_or_refused() -> None:
    room = plan_of(L8, CARD, settings={"memory.strategy": "vram_only"}).per_gpu[0].kv_cache_bytes / GIB
    common: dict[str, Any] = {"memory.strategy": "vram_only", "model.max_model_len": 4096}
    small = plan_of(L8, CARD, settings={**common, "memory.kv_cache.size_gib": 1.5})
    assert small.fits
    assert small.per_gpu[0].kv_cache_bytes == pytest.approx(1.5 * GIB, rel=0.01)
    assert small.prediction.kv_cache_tokens_low == small.prediction.kv_cache_tokens_high == small.kv_cache_tokens
    large = plan_of(L8, CARD, settings={**common, "memory.kv_cache.size_gib": room + 3})
    assert not large.fits
    assert large.problems[0].cause == "no_kv_cache_memory"
    assert large.problems[0].key == "memory.kv_cache.size_gib"
    most = float(str(large.problems[0].remedy).split("size_gib=")[1].split(" ")[0])
    assert room <= most < room + 3
    assert plan_of(L8, CARD, settings={**common, "memory.kv_cache.size_gib": most}).fits
