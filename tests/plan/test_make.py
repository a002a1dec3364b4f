"""What a plan chooses and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.plan.make import make_plan
from nexus_orch.types import CAUSES, GIB, Lesson, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec, plan_of

Q7, Q32, MOE = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen3-30B-A3B"
CARD = make_gpu()


def _cause(plan: Plan) -> str | None:
    assert not plan.fits
    assert all(problem.remedy for problem in plan.problems)
    assert {problem.cause for problem in plan.problems} <= set(CAUSES)
    return plan.problems[0].cause


def test_a_model_that_fits_stays_on_the_card() -> None:
    plan = plan_of(Q7, CARD)
    assert plan.fits
    assert plan.loader == "vram_only"
    assert plan.max_model_len == 32768
    assert plan.settings["model.dtype"] == "bfloat16"
    assert plan.settings["serve.port"] == 8000
    assert "memory.cpu_offload_gib" not in plan.settings
    assert all(choice.reason for choice in plan.choices)
    assert len({choice.key for choice in plan.choices}) == len(plan.choices)


def test_a_model_that_does_not_fit_is_offloaded_as_little_as_needed() -> None:
    plan = plan_of(Q32, CARD, CARD)
    assert plan.fits
    assert plan.loader == "hybrid"
    assert plan.settings["serve.tensor_parallel"] == 2
    card = plan.per_gpu[0]
    assert 8 * GIB < card.offloaded_bytes < 12 * GIB
    assert card.weights_bytes + card.offloaded_bytes > 30 * GIB
    assert plan.max_model_len >= 4096


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"memory.strategy": "vram_only"}, "weights_oom"),
        ({"serve.tensor_parallel": 4}, "not_enough_gpus"),
        ({"serve.tensor_parallel": 3}, "tensor_parallel_invalid"),
        ({"serve.pipeline_parallel": 65}, "tensor_parallel_invalid"),
        ({"model.max_model_len": 10**9}, "context_exceeds_model"),
        ({"memory.gpu_memory_utilization": 0.995}, "memory_busy"),
        ({"model.dtype": "int3"}, "unsupported_dtype"),
        ({"model.quantization": "awq"}, "unsupported_quantization"),
        ({"memory.kv_cache.dtype": "float32"}, "unsupported_dtype"),
    ],
)
def test_what_cannot_work_has_a_cause_and_a_remedy(settings: dict[str, Any], expected: str) -> None:
    plan = plan_of(Q32, CARD, CARD, settings=settings)
    assert _cause(plan) == expected
    for key, value in settings.items():
        choice = plan.choice(key)
        assert choice is None or (choice.value, choice.origin) == (value, "pinned")


def test_the_remedy_was_tried_out() -> None:
    plan = plan_of(Q32, CARD, CARD, settings={"memory.strategy": "vram_only"})
    remedy = plan.problems[0].remedy
    assert remedy is not None
    more = re.search(r"(\d) more card", remedy)
    assert more is not None
    assert plan_of(Q32, CARD, CARD, *[CARD] * int(more[1]), settings={"memory.strategy": "vram_only"}).fits
    assert "memory=hybrid" in remedy
    assert "tokens/s" in remedy


def test_a_context_that_is_too_long_is_told_the_longest() -> None:
    pinned = {"model.max_model_len": 131072, "memory.strategy": "vram_only"}
    plan = plan_of("meta-llama/Llama-3.1-8B-Instruct", CARD, settings=pinned)
    assert _cause(plan) == "context_too_long"
    longest = int(str(plan.problems[0].remedy).split("max_model_len <= ")[1].split(", or")[0].replace(",", ""))
    shorter = {**pinned, "model.max_model_len": longest}
    told = plan_of("meta-llama/Llama-3.1-8B-Instruct", CARD, settings=shorter)
    assert (told.fits, told.prediction.borderline) == (True, False), "a remedy holds at the low end of the estimate"
    longer = {**pinned, "model.max_model_len": longest + 16}
    assert plan_of("meta-llama/Llama-3.1-8B-Instruct", CARD, settings=longer).prediction.borderline


def test_a_busy_card_gets_a_smaller_share() -> None:
    plan = plan_of(Q7, make_gpu(free_bytes=int(19.5 * GIB)))
    assert plan.fits
    share = plan.choice("memory.gpu_memory_utilization")
    assert share is not None
    assert share.value <= 19.5 / 23.55
    assert "really free" in share.reason


def test_too_little_ram_is_refused() -> None:
    plan = plan_of("meta-llama/Llama-3.1-70B-Instruct", CARD, settings={"memory.strategy": "hybrid"}, ram_gib=64)
    assert _cause(plan) == "host_oom"


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean hybrid"):
        plan_of(Q7, CARD, settings={"memory.strategy": "hybird"})


def test_no_card_at_all_is_said() -> None:
    facts = make_facts(Q7, CARD)
    empty = make_facts(Q7)
    without = type(facts)(facts.model, empty.machine, facts.engine)
    assert _cause(make_plan(make_spec(), without, LOADERS)) == "not_enough_gpus"


def test_cards_without_bfloat16_get_float16() -> None:
    old = make_gpu(name="T4", supports_bf16=False, compute_capability=(7, 5), total_bytes=int(14.5 * GIB))
    dtype = plan_of("Qwen/Qwen2.5-1.5B-Instruct", old).choice("model.dtype")
    assert dtype is not None
    assert (dtype.value, dtype.origin) == ("float16", "derived")
    assert "T4" in dtype.reason
    pinned = plan_of("Qwen/Qwen2.5-1.5B-Instruct", old, settings={"model.dtype": "bfloat16"})
    assert _cause(pinned) == "unsupported_dtype"


def test_a_small_model_stays_on_one_of_many_cards() -> None:
    assert plan_of("HuggingFaceTB/SmolLM2-135M-Instruct", *[CARD] * 4).settings["serve.tensor_parallel"] == 1


def test_heads_that_do_not_divide_lead_to_pipeline_stages() -> None:
    plan = plan_of("Qwen/Qwen2.5-32B-Instruct", *[CARD] * 3, settings={"memory.strategy": "vram_only"})
    assert plan.fits
    assert (plan.settings["serve.tensor_parallel"], plan.settings["serve.pipeline_parallel"]) == (1, 3)
    assert len(plan.per_gpu) == 3


def test_auto_means_that_the_planner_decides() -> None:
    plan = plan_of(Q7, CARD, settings={"model.dtype": "auto", "memory.strategy": "auto"})
    assert plan.settings["model.dtype"] == "bfloat16"
    assert plan.loader == "vram_only"


def test_lessons_fill_what_is_open_and_never_what_is_pinned() -> None:
    lessons = [
        Lesson("memory.gpu_memory_utilization", 0.8, "the last start found 19 GiB free"),
        Lesson("measured.activation_bytes", 2 * GIB, "measured by the last start"),
        Lesson("nonsense.key", 1, "ignored"),
    ]
    facts = make_facts(Q7, CARD)
    learned = make_plan(make_spec(), facts, LOADERS, lessons)
    choice = learned.choice("memory.gpu_memory_utilization")
    assert choice is not None
    assert (choice.value, choice.origin, choice.reason) == (0.8, "learned", "the last start found 19 GiB free")
    assert learned.per_gpu[0].activation_bytes == 2 * GIB
    assert learned.spec == make_spec()
    pinned = make_plan(make_spec({"memory.gpu_memory_utilization": 0.9}), facts, LOADERS, lessons)
    assert pinned.settings["memory.gpu_memory_utilization"] == 0.9


def test_the_parts_of_a_card_add_up_to_its_budget() -> None:
    for plan in (plan_of(Q7, CARD), plan_of(Q32, CARD, CARD), plan_of(MOE, CARD, ram_gib=128)):
        assert plan.fits
        for card in plan.per_gpu:
            parts = card.weights_bytes + card.kv_cache_bytes + card.activation_bytes + card.non_torch_bytes
            assert parts + card.cuda_graph_bytes + card.static_pool_bytes + card.headroom_bytes == card.budget_bytes
            assert card.headroom_bytes >= 0


def test_graphs_that_are_not_reserved_are_left_free() -> None:
    """Up to 0.19 the engine captures graphs beyond its budget."""
    plan = plan_of(Q7, make_gpu(free_bytes=int(21.9 * GIB)), version="0.11.2")
    card = plan.per_gpu[0]
    assert card.cuda_graph_bytes > 0
    assert card.budget_bytes + card.cuda_graph_bytes <= 21.9 * GIB
    assert any("on top of its budget" in note for note in plan.notes)


def test_the_cpu_engine_plans_ram() -> None:
    plan = plan_of("HuggingFaceTB/SmolLM2-135M-Instruct", ram_gib=16)
    assert plan.fits
    assert plan.settings["model.dtype"] == "float16"
    assert plan.settings["memory.kv_cache.size_gib"] == 1
    eager = plan.choice("memory.enforce_eager")
    assert eager is not None
    assert (eager.value, eager.origin) == (True, "derived")
    assert "100 s" in eager.reason
    assert plan.max_model_len == 8192
    assert len(plan.per_gpu) == 1
    assert plan.prediction.decode_tokens_per_second is None
    assert plan.per_gpu[0].headroom_bytes == plan.host.available_bytes - plan.host.required_bytes


@pytest.mark.parametrize(
    ("settings", "ram_gib", "expected"),
    [
        ({"memory.kv_cache.size_gib": 30}, 16, "host_oom"),
        ({"model.max_model_len": 9000}, 16, "context_exceeds_model"),
        ({"memory.strategy": "hybrid"}, 16, "offload_unsupported"),
        ({"serve.tensor_parallel": 2}, 16, "tensor_parallel_invalid"),
    ],
)
def test_the_cpu_engine_refuses(settings: dict[str, Any], ram_gib: float, expected: str) -> None:
    assert _cause(plan_of("HuggingFaceTB/SmolLM2-135M-Instruct", settings=settings, ram_gib=ram_gib)) == expected


def test_an_unknown_strategy_is_refused_on_the_cpu_engine_too() -> None:
    with pytest.raises(ConfigError, match='no loader is called "hybird"') as caught:
        plan_of("Qwen/Qwen2.5-0.5B-Instruct", settings={"memory.strategy": "hybird"}, ram_gib=16)
    assert "hybrid" in str(caught.value.problems[0].remedy)


def test_a_cpu_cache_that_is_pinned_too_small_is_told_what_fits() -> None:
    settings = {"memory.kv_cache.size_gib": 1, "model.max_model_len": 32768}
    plan = plan_of(Q7, settings=settings, ram_gib=32)
    assert _cause(plan) == "context_too_long"
    assert "size_gib=2" in str(plan.problems[0].remedy)


def test_compilation_on_the_cpu_can_be_asked_for() -> None:
    plan = plan_of("HuggingFaceTB/SmolLM2-135M-Instruct", settings={"memory.enforce_eager": False})
    choice = plan.choice("memory.enforce_eager")
    assert choice is not None
    assert (choice.value, choice.origin) == (False, "pinned")


@pytest.mark.parametrize(("version", "ram_gib", "expected"), [("0.32.0", 2.6, 0.5), ("0.19.1", 3.5, 1.0)])
def test_a_cpu_cache_takes_part_of_a_gib_where_the_release_can(version: str, ram_gib: float, expected: float) -> None:
    plan = plan_of("HuggingFaceTB/SmolLM2-135M-Instruct", version=version, ram_gib=ram_gib)
    assert plan.fits
    assert plan.settings["memory.kv_cache.size_gib"] == expected
