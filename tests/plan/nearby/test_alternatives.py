"""What would change the verdict, and what is better: tried out by the planner itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.plan.make import make_plan
from nexus_orch.plan.nearby.alternatives import LEAST_GAIN, MOST_SHOWN, find_alternatives
from nexus_orch.types import GIB, Alternative, Facts, GpuFacts, Lesson, ModelFacts, Plan, RunSpec, WorkloadSpec
from tests.plan.cases import LOADERS, config_of, make_facts, make_gpu, make_spec

Q7, Q14, Q32 = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen2.5-32B-Instruct"
L8 = "meta-llama/Llama-3.1-8B-Instruct"
CARD = make_gpu()
OLD = make_gpu(supports_fp8=False)


def _found(
    model: str,
    *gpus: GpuFacts,
    settings: dict[str, Any] | None = None,
    objective: str = "throughput",
    siblings: dict[str, ModelFacts] | None = None,
    **facts: Any,
) -> tuple[Plan, Facts, tuple[Alternative, ...]]:
    spec: RunSpec = replace(make_spec(settings), workload=WorkloadSpec(objective=objective))
    known = make_facts(model, *gpus, **facts)
    plan = make_plan(spec, known, LOADERS)
    return plan, known, find_alternatives(plan, known, LOADERS, siblings=siblings)


def _changes(found: tuple[Alternative, ...]) -> list[str]:
    return [alternative.change for alternative in found]


def _awq(name: str) -> dict[str, ModelFacts]:
    config = config_of(f"{name}-AWQ")
    return {"quantized": ModelFacts("quantized", f"{name}-AWQ", config, "profile")}


def test_a_plan_that_does_not_fit_is_told_what_would() -> None:
    pinned = {"memory.strategy": "vram_only", "model.max_model_len": 8192}
    plan, facts, found = _found(Q32, OLD, OLD, settings=pinned, siblings=_awq(Q32))
    assert not plan.fits
    assert _changes(found) == ["model=quantized", "memory.strategy=hybrid", "2 more cards"]
    hybrid, more = found[1], found[2]
    assert hybrid.overrides == ("memory.strategy=hybrid",)
    assert hybrid.offloaded_bytes > 0
    assert "GiB of weights in host RAM" in hybrid.effect
    assert more.overrides == ("hardware.gpu.count=4",)
    tried = make_plan(make_spec({**pinned, "memory.strategy": "hybrid"}), facts, LOADERS)
    assert tried.fits
    assert tried.kv_cache_tokens == hybrid.kv_cache_tokens


def test_a_context_that_is_too_long_gets_the_longest_that_surely_fits() -> None:
    pinned = {"memory.strategy": "vram_only", "model.max_model_len": 131072}
    _, facts, found = _found(L8, OLD, settings=pinned)
    (shorter,) = [entry for entry in found if entry.change.startswith("model.max_model_len=")]
    assert 16384 < shorter.max_model_len < 131072
    again = make_plan(make_spec({**pinned, "model.max_model_len": shorter.max_model_len}), facts, LOADERS)
    assert again.fits
    assert not again.prediction.borderline


def test_a_pin_that_breaks_the_plan_is_loosened() -> None:
    plan, _, found = _found(Q7, CARD, CARD, settings={"serve.tensor_parallel": 3})
    assert not plan.fits
    assert "serve.tensor_parallel=auto" in _changes(found)


@pytest.mark.parametrize(
    ("objective", "key"),
    [("throughput", "kv_cache_tokens"), ("latency", "decode_tokens_per_second"), ("context", "max_model_len")],
)
def test_an_alternative_to_a_good_plan_is_better_for_the_objective(objective: str, key: str) -> None:
    plan, _, found = _found(Q14, CARD, objective=objective, siblings=_awq(Q14))
    assert plan.fits
    assert 0 < len(found) <= MOST_SHOWN
    have: float = getattr(plan.prediction if objective == "latency" else plan, key)
    assert getattr(found[0], key) >= LEAST_GAIN * have
    assert objective in found[0].effect or objective == "latency"


def test_the_best_comes_first_and_more_cards_last() -> None:
    plan, _, found = _found(Q14, CARD, siblings=_awq(Q14))
    assert any(card.offloaded_bytes for card in plan.per_gpu)
    assert found[0].change == "model=quantized"
    assert found[-1].change == "1 more card"
    assert found[-1].offloaded_bytes == 0


def test_the_whole_card_is_no_first_advice_to_who_pinned_a_share() -> None:
    """A share has a reason, such as another engine on the card."""
    _, _, found = _found(L8, CARD, settings={"memory.gpu_memory_utilization": 0.78})
    changes = _changes(found)
    share = changes.index("memory.gpu_memory_utilization=auto")
    assert share > 0
    assert not any(".gpu_memory_utilization" in change or "card" in change for change in changes[:share])


def test_eight_bits_are_offered_only_to_cards_that_compute_with_them() -> None:
    assert "memory.kv_cache.dtype=fp8" in _changes(_found(L8, CARD)[2])
    assert _changes(_found(Q7, OLD)[2]) == []


def test_eight_bit_keys_are_not_offered_to_models_that_they_break() -> None:
    """Qwen2.5: keys with a bias (see nexus_orch/plan/search/narrow.py)."""
    assert "model.quantization=fp8" in _changes(_found(Q7, CARD)[2])
    assert "memory.kv_cache.dtype=fp8" not in _changes(_found(Q7, CARD)[2])


def test_formats_that_are_worth_the_same_are_told_once() -> None:
    twins = {**_awq(Q7), "twin": replace(_awq(Q7)["quantized"], name="twin")}
    assert _changes(_found(Q7, OLD, siblings=twins)[2]) == ["model=quantized"]


def test_a_broken_sibling_is_left_out() -> None:
    broken = {"broken": ModelFacts("broken", None, {"quantization_config": {"quant_method": "awq"}}, "profile")}
    assert _found(Q7, OLD, siblings=broken)[2] == ()


def test_a_cpu_is_told_a_shorter_context() -> None:
    name = "Qwen/Qwen2.5-1.5B-Instruct"
    plan, _, found = _found(name, settings={"model.max_model_len": 32768, "memory.kv_cache.size_gib": 0.5}, ram_gib=8)
    assert not plan.fits
    assert "memory.kv_cache.size_gib=auto" in _changes(found)
    assert any(change.startswith("model.max_model_len=") for change in _changes(found))


def test_alternatives_are_planned_as_the_run_was() -> None:
    """With what was learned: a remedy that only holds by estimates would be refused when it is taken."""
    spec, facts = make_spec({"model.max_model_len": 65536, "memory.strategy": "vram_only"}), make_facts(L8, OLD)
    busy = [Lesson("machine.free_bytes.0", 20 * GIB, "measured now")]

    def draw(spec: RunSpec, facts: Facts) -> Plan:
        return make_plan(spec, facts, LOADERS, busy)

    plan = draw(spec, facts)
    by_lessons = find_alternatives(plan, facts, LOADERS, draw=draw)
    context = next(found for found in by_lessons if found.change.startswith("model.max_model_len="))
    assert draw(spec.with_value("model.max_model_len", context.max_model_len), facts).fits
    estimated = find_alternatives(plan, facts, LOADERS)
    assert all(found.max_model_len > context.max_model_len for found in estimated if "max_model_len" in found.change)


def test_finding_alternatives_changes_nothing() -> None:
    plan, facts, found = _found(Q14, CARD)
    assert plan.prediction.alternatives == ()
    assert find_alternatives(plan, facts, LOADERS) == found
