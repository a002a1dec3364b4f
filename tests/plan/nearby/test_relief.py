"""Changes that could relieve a server that is short of memory, by what was observed of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus_orch.plan.nearby.relief import find_relief
from nexus_orch.types import Finding, GpuFacts
from tests.plan.cases import make_facts, make_gpu, plan_of

PLAIN, BIASED = "Qwen/Qwen3-8B", "Qwen/Qwen2.5-7B-Instruct"
CARD = make_gpu()
FULL = Finding("preemptions", 300, "17 preemptions a minute", running=12, waiting=12, kv_cache_usage=1.0)
LOW_RAM = Finding("ram_low", 300, "2.0 of 64.0 GiB RAM are free", peak_kv_cache_usage=0.2)


def _names(finding: Finding, model: str = PLAIN, card: GpuFacts = CARD) -> list[str]:
    return [variation.name for variation in find_relief(finding, plan_of(model, card), make_facts(model, card))]


def _overrides(finding: Finding, model: str, *cards: GpuFacts, **settings: float) -> list[str]:
    pinned = {key.replace("__", "."): value for key, value in settings.items()}
    found = find_relief(finding, plan_of(model, *cards, settings=pinned), make_facts(model, *cards))
    return [variation.change for variation in found]


def test_a_card_gets_a_narrower_cache_a_larger_share_a_smaller_batch_or_more_offload() -> None:
    assert _names(FULL) == ["narrow_cache", "larger_share", "smaller_batch", "offloaded_amount"]
    assert _overrides(FULL, PLAIN, CARD)[:3] == [
        "memory.kv_cache.dtype=fp8",
        "memory.gpu_memory_utilization=0.95",
        "serve.max_num_batched_tokens=2048",
    ]


def test_where_the_bus_is_the_limit_more_requests_share_each_pass() -> None:
    bound = replace(FULL, kind="bus_bound", waiting=3)
    assert _names(bound)[0] == "requests_at_once"
    assert _overrides(bound, PLAIN, CARD)[0] == "serve.max_num_seqs=24"
    assert "offloaded_amount" not in _names(bound)


@pytest.mark.parametrize("finding", [FULL, LOW_RAM])
def test_8_bits_are_proposed_only_where_the_planner_would_take_them(finding: Finding) -> None:
    """Cards that do not compute with them keep their cache, and models whose keys they break (Qwen2.5)."""
    assert "narrow_cache" in _names(finding)
    assert "narrow_cache" not in _names(finding, card=make_gpu(supports_fp8=False))
    assert "narrow_cache" not in _names(finding, model=BIASED)


def test_the_cpu_engine_gets_a_larger_cache_and_where_ram_is_low_a_smaller_one() -> None:
    assert _overrides(FULL, BIASED, memory__kv_cache__size_gib=8) == ["memory.kv_cache.size_gib=16"]
    assert _overrides(LOW_RAM, BIASED, memory__kv_cache__size_gib=8) == ["memory.kv_cache.size_gib=2"]


def test_a_cache_that_was_used_up_is_not_made_smaller() -> None:
    assert _overrides(replace(LOW_RAM, peak_kv_cache_usage=0.9), BIASED, memory__kv_cache__size_gib=8) == []


def test_nothing_is_proposed_that_the_plan_does_already() -> None:
    plan = plan_of(PLAIN, CARD, settings={"memory.kv_cache.dtype": "fp8", "memory.gpu_memory_utilization": 0.95})
    names = [variation.name for variation in find_relief(FULL, plan, make_facts(PLAIN, CARD))]
    assert names == ["smaller_batch", "offloaded_amount"]
