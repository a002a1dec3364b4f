"""The settings that a loader is tried with, rung by rung, and when it does without CUDA graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.search.trials import EAGER, SearchSpace
from nexus_orch.plan.search.variations import LEAN_BATCHED_TOKENS, RAISED_UTILIZATION
from nexus_orch.types import GIB, GpuFacts, Plan, WorkloadSpec
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

Q14, L8 = "Qwen/Qwen2.5-14B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"


def _card(gib: float) -> GpuFacts:
    return make_gpu(total_bytes=int((gib - 0.45) * GIB), free_bytes=int((gib - 0.7) * GIB))


def _space(model: str, *gpus: GpuFacts, **pinned: Any) -> SearchSpace:
    spec = make_spec({key.replace("__", "."): value for key, value in pinned.items()})
    inputs = read_inputs(spec, make_facts(model, *gpus), ())
    return SearchSpace(inputs, choose_parallelism(inputs))


def _plan(model: str, *gpus: GpuFacts, users: int = 1, **pinned: Any) -> Plan:
    spec = make_spec({key.replace("__", "."): value for key, value in pinned.items()})
    spec = replace(spec, workload=WorkloadSpec(concurrency=users))
    return make_plan(spec, make_facts(model, *gpus, version="0.25.1", ram_gib=128), LOADERS)


def test_the_engines_own_share_comes_first_then_a_larger_one_then_a_leaner_batch() -> None:
    first, second, third = _space(Q14, _card(96)).rungs
    assert first.batching is second.batching and first.share < second.share == RAISED_UTILIZATION
    assert third.batching.tokens == LEAN_BATCHED_TOKENS < first.batching.tokens
    assert [rung.is_largest_share for rung in (first, second, third)] == [False, True, True]
    assert [rung.is_last for rung in (first, second, third)] == [False, False, True]


def test_a_pinned_share_is_the_only_one() -> None:
    rungs = _space(Q14, _card(96), memory__gpu_memory_utilization=0.5).rungs
    assert all(rung.is_largest_share for rung in rungs)
    assert len(rungs) == 2


def _moved(plan: Plan) -> int:
    return sum(card.offloaded_bytes for card in plan.per_gpu)


def test_graphs_are_kept_where_a_larger_share_keeps_all_weights_on_the_card() -> None:
    """With them some weights would leave at the engine's own share: that is no reason to give them up yet."""
    graphs: dict[str, Any] = {"memory__strategy": "hybrid", "memory__enforce_eager": False}
    usual = _plan(L8, _card(18.96), memory__gpu_memory_utilization=0.92, **graphs)
    assert usual.fits and _moved(usual)
    plan = _plan(L8, _card(18.96), memory__strategy="hybrid")
    assert plan.fits and not _moved(plan)
    assert plan.choice(EAGER) is None
    assert 0.92 < plan.settings["memory.gpu_memory_utilization"] <= RAISED_UTILIZATION


def test_graphs_are_given_up_at_the_largest_share_for_weights_that_would_leave() -> None:
    plan = _plan(L8, _card(18), memory__strategy="hybrid")
    choice = plan.choice(EAGER)
    assert plan.fits and not _moved(plan)
    assert choice is not None and choice.reason.endswith("without them no weights must leave the card")
    assert _moved(_plan(L8, _card(18), memory__strategy="hybrid", memory__enforce_eager=False))


def test_graphs_are_given_up_for_requests_that_would_wait() -> None:
    plan = _plan(L8, _card(20), users=32, memory__strategy="hybrid")
    choice = plan.choice(EAGER)
    assert choice is not None
    assert choice.reason.endswith("without them 32 requests run at once instead of 21")
    assert plan.prediction.requests_at_once == 32
