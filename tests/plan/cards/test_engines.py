"""Engines side by side: each has its own cards and KV cache, and together they hold the experts once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nexus_orch.types import GIB, Plan
from tests.plan.cases import make_gpu, plan_of

CARD = make_gpu(name="H100 SXM", total_bytes=int(79.2 * GIB), free_bytes=int(78.9 * GIB), compute_capability=(9, 0))
DENSE, EXPERTS = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-30B-A3B"


def planned(model: str, cards: int, settings: Mapping[str, Any]) -> Plan:
    return plan_of(model, *[CARD] * cards, version="0.19.1", settings=settings)


def test_each_engine_of_a_dense_model_is_one_alone() -> None:
    one = planned(DENSE, 1, {})
    four = planned(DENSE, 4, {"serve.data_parallel": 4})
    assert four.per_gpu[0].weights_bytes == one.per_gpu[0].weights_bytes
    assert four.kv_cache_tokens == one.kv_cache_tokens
    assert len(four.per_gpu) == 1
    assert any("4 engines side by side" in note for note in four.notes)


@pytest.mark.parametrize("whole", [False, True])
def test_experts_are_divided_among_all_ranks_of_all_engines(whole: bool) -> None:
    """128 experts of 48 layers on four ranks: a quarter of them on each, and all else as on one."""
    one = planned(EXPERTS, 1, {})
    four = planned(EXPERTS, 4, {"serve.data_parallel": 4, "serve.expert_parallel": whole})
    experts = 48 * 128 * 3 * 2048 * 768 * 2
    less = one.per_gpu[0].weights_bytes - four.per_gpu[0].weights_bytes
    assert less == pytest.approx(experts * 3 / 4, rel=0.001)


def test_whole_experts_weigh_as_much_as_parts_of_all() -> None:
    parts = planned(EXPERTS, 2, {"serve.tensor_parallel": 2})
    whole = planned(EXPERTS, 2, {"serve.tensor_parallel": 2, "serve.expert_parallel": True})
    assert whole.per_gpu[0].weights_bytes == pytest.approx(parts.per_gpu[0].weights_bytes, rel=0.001)


@pytest.mark.parametrize(
    "settings",
    [
        {"serve.data_parallel": 4, "serve.tensor_parallel": 2},
        {"serve.extra_args": ("--data-parallel-size", "4"), "serve.tensor_parallel": 2},
        {"serve.data_parallel": 8, "serve.tensor_parallel": 1},
    ],
)
def test_engines_that_want_more_cards_than_there_are_are_refused(settings: Mapping[str, Any]) -> None:
    plan = planned(DENSE, 4, settings)
    assert not plan.fits
    [problem] = plan.problems
    assert problem.cause == "not_enough_gpus"
    assert "engines of" in problem.message
    assert problem.remedy


def test_the_engines_divide_the_cards_between_them() -> None:
    plan = planned("Qwen/Qwen2.5-72B-Instruct", 8, {"serve.data_parallel": 2})
    choice = plan.choice("serve.tensor_parallel")
    assert choice is not None
    assert choice.value == 4


def test_only_the_engines_of_this_machine_take_its_cards() -> None:
    words = ("--data-parallel-size", "16", "--data-parallel-size-local", "4", "--enable-expert-parallel")
    plan = planned(EXPERTS, 4, {"serve.extra_args": words, "serve.tensor_parallel": 1})
    assert plan.fits
    assert any("4 engines side by side" in note for note in plan.notes)
