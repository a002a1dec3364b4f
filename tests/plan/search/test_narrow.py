"""Keys and values in 8 bits: chosen where nothing else fits on the cards, and never for a run that fits."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_orch.plan import parse_architecture
from nexus_orch.plan.cards.account import NARROW_CACHE_WORKSPACE_BYTES
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.nearby.alternatives import find_alternatives
from nexus_orch.plan.search.narrow import refuse_narrow_cache
from nexus_orch.types import GIB, Plan
from tests.plan.cases import LOADERS, config_of, make_facts, make_gpu, make_spec, plan_of

L8, Q7, Q8 = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-8B"
CARD = make_gpu()
LONG = {"model.max_model_len": 65536}


def _narrow(plan: Plan) -> str | None:
    choice = plan.choice("memory.kv_cache.dtype")
    return None if choice is None else f"{choice.value} {choice.origin}"


def test_a_context_that_fits_in_no_other_way_is_kept_in_8_bits_and_says_so() -> None:
    plan = plan_of(L8, CARD, settings=LONG)
    assert (plan.fits, plan.prediction.borderline, plan.loader) == (True, False, "vram_only")
    assert _narrow(plan) == "fp8 derived"
    choice = plan.choice("memory.kv_cache.dtype")
    assert choice is not None
    assert "65,536 tokens do not fit in bfloat16" in choice.reason
    assert "memory=hybrid keeps full precision" in choice.reason
    whole = plan_of(L8, CARD, settings={**LONG, "memory.strategy": "vram_only", "memory.kv_cache.dtype": "bfloat16"})
    assert not whole.fits


@pytest.mark.parametrize("length", [4096, 16384, 32768])
def test_a_run_that_fits_keeps_the_models_own_type(length: int) -> None:
    plan = plan_of(L8, CARD, settings={"model.max_model_len": length})
    assert plan.fits
    assert _narrow(plan) is None


@pytest.mark.parametrize(
    ("settings", "narrow"),
    [
        ({"memory.strategy": "hybrid"}, None),  # who wants host RAM gets it, in full precision
        ({"memory.cpu_offload_gib": 4.0}, None),
        ({"memory.strategy": "vram_only", "model.max_model_len": 32768}, None),
        ({"memory.kv_cache.dtype": "bfloat16"}, "bfloat16 pinned"),
        ({"memory.kv_cache.dtype": "fp8_e5m2"}, "fp8_e5m2 pinned"),
        ({"memory.kv_cache.dtype": "auto"}, "fp8 derived"),
    ],
)
def test_what_the_user_says_counts(settings: dict[str, Any], narrow: str | None) -> None:
    plan = plan_of(L8, CARD, settings={**LONG, **settings})
    assert plan.fits
    assert _narrow(plan) == narrow


def test_a_pinned_strategy_is_judged_as_it_is_written_and_told_of_8_bits() -> None:
    facts, spec = make_facts(L8, CARD), make_spec({**LONG, "memory.strategy": "vram_only"})
    plan = make_plan(spec, facts, LOADERS)
    assert not plan.fits
    assert "memory.kv_cache.dtype=fp8" in [found.change for found in find_alternatives(plan, facts, LOADERS)]


def test_what_does_not_fit_in_8_bits_either_is_offloaded_in_full_precision() -> None:
    plan = plan_of(L8, CARD, settings={"model.max_model_len": 131072})
    assert (plan.fits, plan.loader, _narrow(plan)) == (True, "hybrid", None)


@pytest.mark.parametrize(
    ("model", "changes", "version", "why"),
    [
        (L8, {}, "0.32.0", None),
        (Q8, {}, "0.32.0", None),
        (Q7, {}, "0.32.0", "keys with a bias"),
        ("openai/gpt-oss-20b", {}, "0.32.0", "another kind"),
        ("deepseek-ai/DeepSeek-V3", {}, "0.32.0", "another kind"),
        (L8, {"supports_fp8": False, "name": "RTX 3090"}, "0.32.0", "RTX 3090 does not compute in 8 bits"),
        (L8, {"supports_fp8": None}, "0.32.0", "does not compute in 8 bits"),
        (L8, {}, "0.10.2", "before 0.11.1"),
    ],
)
def test_where_it_is_not_done(model: str, changes: dict[str, Any], version: str, why: str | None) -> None:
    facts = make_facts(model, make_gpu(**changes), version=version)
    found = refuse_narrow_cache(parse_architecture(config_of(model)), facts)
    assert found is None if why is None else why in str(found)


def test_the_buffer_of_the_kernels_is_left_free() -> None:
    free = int(20 * GIB)
    pinned = {"memory.kv_cache.dtype": "fp8"}
    plan = plan_of(L8, make_gpu(free_bytes=free), settings=pinned)
    assert plan.per_gpu[0].budget_bytes + NARROW_CACHE_WORKSPACE_BYTES <= free
    wide = plan_of(L8, make_gpu(free_bytes=free))
    gained = wide.per_gpu[0].budget_bytes - plan.per_gpu[0].budget_bytes
    assert gained == pytest.approx(NARROW_CACHE_WORKSPACE_BYTES, abs=0.002 * plan.per_gpu[0].total_bytes)
    hopper = make_gpu(free_bytes=free, compute_capability=(9, 0))
    assert plan_of(L8, hopper, settings=pinned).per_gpu[0].budget_bytes == plan_of(L8, hopper).per_gpu[0].budget_bytes
