"""What a launch teaches later plans, on the logs and the numbers of real launches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.judge.learned.case import make_machine_key, make_model_key
from nexus_orch.judge.learned.learning import (
    RULES,
    LaunchMeasurement,
    choose_lessons,
    make_measurement,
    render_lessons,
)
from nexus_orch.judge.log.measured import Measured, RankMeasured
from nexus_orch.plan.make import make_plan
from nexus_orch.types import COMPILED_PEAK, GIB, MIB, PASS_PEAK, Facts, Lesson, Plan
from tests.judge.logs import lines_of, read
from tests.plan.cases import LOADERS, launch_facts, launches, make_facts, make_gpu, make_spec, plan_launch

TODAY = "2026-11-23"
WITHIN = 0.005
"""What is promised after one launch on the machine."""
MODEL = "Qwen/Qwen2.5-7B-Instruct"
SETTINGS = {"memory.strategy": "vram_only", "serve.max_num_batched_tokens": 4096}
SERVED = [launch for launch in launches() if launch["measured"].get("kv_tokens") and "failed" not in launch["measured"]]


def _read_log(name: str) -> Measured:
    return read(*lines_of(name)).measured


def _launch(name: str) -> Mapping[str, Any]:
    return next(launch for launch in launches() if launch["name"] == name)


def _measured_of(launch: Mapping[str, Any]) -> Measured:
    """What the log of a published launch must have told."""
    told = launch["measured"]
    numbers = {
        name: None if told.get(key) is None else round(told[key] * GIB)
        for name, key in (
            ("weights_bytes", "weights_gib"),
            ("kv_cache_bytes", "kv_cache_gib"),
            ("non_torch_bytes", "non_torch_gib"),
            ("cuda_graph_bytes", "graph_gib"),
        )
    }
    return Measured(kv_cache_tokens=told["kv_tokens"], ranks={"rank": RankMeasured(**numbers)})


def _plan(changes: Mapping[str, Any] | None = None, lessons: tuple[Lesson, ...] = (), **facts: Any) -> Plan:
    return make_plan(make_spec({**SETTINGS, **(changes or {})}), _facts(**facts), LOADERS, lessons)


def _facts(**changes: Any) -> Facts:
    return make_facts(MODEL, make_gpu(), **changes)


def _measure(plan: Plan, facts: Facts | None = None, **numbers: Any) -> LaunchMeasurement:
    """A launch that took half a GiB more than planned, and told all that an engine can tell."""
    card = plan.per_gpu[0]
    cache = card.kv_cache_bytes + card.headroom_bytes - GIB // 2
    known = {"weights_bytes": card.weights_bytes, "non_torch_bytes": GIB // 4, "cuda_graph_bytes": GIB // 3}
    rank = RankMeasured(kv_cache_bytes=cache, **{**known, **numbers})
    measurement = make_measurement(plan, facts or _facts(), Measured(ranks={"rank": rank}), TODAY)
    assert measurement is not None
    return measurement


def _keys(lessons: tuple[Lesson, ...]) -> set[str]:
    return {lesson.key for lesson in lessons}


@pytest.mark.parametrize(
    ("log", "name"),
    [
        ("0.25.1-h100-q7_eager", "q7_eager"),
        ("0.25.1-h100-q7_default", "q7_default"),
        ("0.25.1-h100-q32_eager", "q32_eager"),
    ],
)
def test_after_one_launch_the_cache_is_predicted_as_its_log_tells(log: str, name: str) -> None:
    facts, plan, measured = launch_facts(_launch(name)), plan_launch(_launch(name)), _read_log(log)
    measurement = make_measurement(plan, facts, measured, TODAY)
    assert measurement is not None
    second = make_plan(plan.spec, facts, LOADERS, choose_lessons([measurement], plan, facts))
    assert measured.kv_cache_tokens is not None
    assert abs(second.kv_cache_tokens / measured.kv_cache_tokens - 1) < WITHIN


@pytest.mark.parametrize("launch", SERVED, ids=lambda launch: f"{launch['name']} {launch['vllm_version']}")
def test_after_one_launch_the_cache_is_predicted(launch: Mapping[str, Any]) -> None:
    facts, plan = launch_facts(launch), plan_launch(launch)
    measurement = make_measurement(plan, facts, _measured_of(launch), TODAY)
    assert measurement is not None
    second = make_plan(plan.spec, facts, LOADERS, choose_lessons([measurement], plan, facts))
    assert abs(second.kv_cache_tokens / launch["measured"]["kv_tokens"] - 1) < WITHIN
    assert second.fits


@pytest.mark.parametrize("tells_non_torch", [True, False])
def test_what_was_measured_with_one_offload_holds_for_another(tells_non_torch: bool) -> None:
    """The page tables of pinned memory follow from the amount: a launch that went as planned changes no other plan."""
    facts = make_facts("Qwen/Qwen2.5-14B-Instruct", make_gpu(), ram_gib=256)
    common = {"memory.strategy": "hybrid", "memory.offload_backend": "uva", "model.max_model_len": 4096}
    less, more = (make_spec({**common, "memory.cpu_offload_gib": gib}) for gib in (9.0, 18.0))
    card = make_plan(less, facts, LOADERS).per_gpu[0]
    numbers = {"kv_cache_bytes": card.kv_cache_bytes + card.headroom_bytes, "weights_bytes": card.weights_bytes}
    if tells_non_torch:
        numbers["non_torch_bytes"] = card.non_torch_bytes
    measured = Measured(ranks={"rank": RankMeasured(**numbers)})
    measurement = make_measurement(make_plan(less, facts, LOADERS), facts, measured, TODAY)
    assert measurement is not None
    plan = make_plan(more, facts, LOADERS)
    lessons = choose_lessons([measurement], plan, facts)
    assert PASS_PEAK in _keys(lessons)
    second = make_plan(more, facts, LOADERS, lessons).per_gpu[0]
    assert second.page_table_bytes > card.page_table_bytes + 16 * MIB
    assert second.activation_bytes + second.non_torch_bytes == (
        plan.per_gpu[0].activation_bytes + plan.per_gpu[0].non_torch_bytes
    )


@pytest.mark.parametrize("taught_by", ["q7_eager", "A8_qwen2.5-7b_v1_graph"])
def test_a_measurement_holds_for_another_context_and_utilization(taught_by: str) -> None:
    first = _launch(taught_by)
    settings = {**first["settings"], "model.max_model_len": 2048, "memory.gpu_memory_utilization": 0.4}
    other = plan_launch({**first, "settings": settings})
    measurement = make_measurement(plan_launch(first), launch_facts(first), _measured_of(first), TODAY)
    assert measurement is not None
    facts = launch_facts(first)
    lessons = choose_lessons([measurement], other, facts)
    peak = PASS_PEAK if settings.get("memory.enforce_eager") else COMPILED_PEAK
    assert {"measured.weights_bytes", peak} <= _keys(lessons)
    card = make_plan(other.spec, facts, LOADERS, lessons).per_gpu[0]
    told = first["measured"]
    share = first["settings"]["memory.gpu_memory_utilization"] - 0.4
    expected = told["kv_cache_gib"] * GIB - share * facts.machine.gpus[0].total_bytes
    assert abs(card.kv_cache_bytes + card.headroom_bytes - expected) < 0.02 * GIB


def test_all_quantities_are_learned_by_the_same_run() -> None:
    plan = _plan()
    lessons = choose_lessons([_measure(plan)], plan, _facts())
    assert _keys(lessons) == {rule.quantity for rule in RULES if not rule.only_cpu} - {PASS_PEAK} | {COMPILED_PEAK}
    assert {lesson.source for lesson in lessons} == {"measured here on 2026-11-23 with vLLM 0.32.0"}
    second = _plan(lessons=lessons).per_gpu[0]
    assert second.non_torch_bytes == GIB // 4
    assert second.cuda_graph_bytes == GIB // 3


CARRIED = {
    "measured.weights_bytes": {"model.max_model_len", "serve.max_num_batched_tokens", "serve.max_num_seqs", "eager"},
    "measured.non_torch_bytes": {"model.max_model_len", "serve.max_num_batched_tokens", "serve.max_num_seqs"},
    COMPILED_PEAK: {"model.max_model_len"},
    "measured.cuda_graph_bytes": {"model.max_model_len"},
}
OTHER_RUNS: dict[str, dict[str, Any]] = {
    "model.max_model_len": {"model.max_model_len": 2048},
    "serve.max_num_batched_tokens": {"serve.max_num_batched_tokens": 8192},
    "serve.max_num_seqs": {"serve.max_num_seqs": 7},
    "eager": {"memory.enforce_eager": True},
    "model.dtype": {"model.dtype": "float16"},
    "engine.env": {"engine.env": {"VLLM_USE_V2_MODEL_RUNNER": "0"}},
}


@pytest.mark.parametrize("other", OTHER_RUNS)
@pytest.mark.parametrize("quantity", CARRIED)
def test_what_carries_over_to_another_run(quantity: str, other: str) -> None:
    lessons = choose_lessons([_measure(_plan())], _plan(OTHER_RUNS[other]), _facts())
    assert (quantity in _keys(lessons)) == (other in CARRIED[quantity])


@pytest.mark.parametrize(
    "facts",
    [
        _facts(version="0.33.0"),
        make_facts(MODEL, make_gpu(name="RTX 3090")),
        make_facts(MODEL, make_gpu(total_bytes=20 * GIB)),
        make_facts("Qwen/Qwen2.5-14B-Instruct", make_gpu()),
        replace(_facts(), machine=replace(_facts().machine, driver_version="999.1")),
        replace(_facts(), machine=replace(_facts().machine, is_this_machine=False)),
    ],
    ids=["release", "card", "memory", "model", "driver", "elsewhere"],
)
def test_nothing_carries_over_to_another_machine_release_or_model(facts: Facts) -> None:
    assert choose_lessons([_measure(_plan())], _plan(), facts) == ()


def test_a_machine_that_is_not_here_measures_nothing() -> None:
    facts = replace(_facts(), machine=replace(_facts().machine, is_this_machine=False))
    assert make_measurement(_plan(), facts, Measured(kv_cache_tokens=1000), TODAY) is None


def test_an_engine_that_tells_nothing_teaches_nothing() -> None:
    assert make_measurement(_plan(), _facts(), Measured(), TODAY) is None


def test_the_nearest_launch_counts_then_the_newest() -> None:
    plan, other = _plan(), _plan({"serve.max_num_batched_tokens": 2048})
    old = replace(_measure(plan, weights_bytes=11 * GIB), date="2026-01-01")
    new = replace(_measure(plan, weights_bytes=12 * GIB), date="2026-02-02")
    last = _measure(other, weights_bytes=13 * GIB)
    weights = {lesson.key: lesson.value for lesson in choose_lessons([old, new, last], plan, _facts())}
    assert weights["measured.weights_bytes"] == 12 * GIB
    weights = {lesson.key: lesson.value for lesson in choose_lessons([old, new], other, _facts())}
    assert weights["measured.weights_bytes"] == 12 * GIB


def test_the_context_counts_where_a_whole_prompt_is_profiled() -> None:
    plan, longer = _plan(version="0.7.3"), _plan({"model.max_model_len": 2048}, version="0.7.3")
    measurement = replace(_measure(plan, _facts(version="0.7.3")), profiles_prompt=True)
    assert COMPILED_PEAK in _keys(choose_lessons([measurement], plan, _facts(version="0.7.3")))
    assert COMPILED_PEAK not in _keys(choose_lessons([measurement], longer, _facts(version="0.7.3")))


def test_a_cache_of_a_given_size_teaches_no_peak() -> None:
    plan = _plan({"memory.kv_cache.size_gib": 1.0})
    assert _measure(plan).overhead_bytes is None
    assert _measure(plan).weights_bytes == plan.per_gpu[0].weights_bytes


def test_a_derived_batch_becomes_a_learned_choice() -> None:
    facts = make_facts("Qwen/Qwen2.5-14B-Instruct", make_gpu(total_bytes=int(31.5 * GIB), free_bytes=int(31.2 * GIB)))
    spec = make_spec({"memory.strategy": "vram_only", "model.max_model_len": 12000})
    plan = make_plan(spec, facts, LOADERS)
    choice = plan.choice("serve.max_num_batched_tokens") or plan.choice("serve.max_num_seqs")
    assert choice is not None and choice.origin == "derived"
    measurement = _measure(plan, facts)
    second = make_plan(spec, facts, LOADERS, choose_lessons([measurement], plan, facts))
    learned = second.choice(choice.key)
    assert learned is not None and (learned.value, learned.origin) == (choice.value, "learned")
    assert "measured here on 2026-11-23" in learned.reason


def test_a_cpu_engine_teaches_its_tokens() -> None:
    facts = make_facts("Qwen/Qwen2.5-0.5B-Instruct")
    plan = make_plan(make_spec(), facts, LOADERS)
    measurement = make_measurement(plan, facts, _read_log("0.32.0-cpu-ok"), TODAY)
    assert measurement is not None
    lessons = choose_lessons([measurement], plan, facts)
    assert _keys(lessons) == {"measured.kv_cache_tokens"}
    second = make_plan(make_spec(), facts, LOADERS, lessons)
    assert second.kv_cache_tokens == measurement.kv_cache_tokens
    assert second.max_concurrency == round(second.kv_cache_tokens / second.max_model_len, 2)
    larger = make_plan(make_spec({"memory.kv_cache.size_gib": 3}), facts, LOADERS)
    assert choose_lessons([measurement], larger, facts) == ()


def test_secrets_and_places_are_in_no_key() -> None:
    env = {"VLLM_API_KEY": "sesame", "HF_TOKEN": "hf_abc", "VLLM_ATTENTION_BACKEND": "FLASHINFER"}
    with_secrets, without = _plan({"engine.env": env}), _plan({"engine.env": {"VLLM_ATTENTION_BACKEND": "FLASHINFER"}})
    assert _measure(with_secrets).conditions == _measure(without).conditions
    assert _measure(without).conditions != _measure(_plan()).conditions
    elsewhere = replace(_facts().model, path="/somewhere/else")
    assert make_model_key(elsewhere) == make_model_key(_facts().model)


def test_the_key_of_a_machine_can_be_read() -> None:
    machine = replace(make_facts(MODEL, make_gpu(), make_gpu()).machine, driver_version="580.65")
    assert make_machine_key(machine) == "RTX 4090 24115 MiB, linux, driver 580.65"
    assert make_machine_key(make_facts(MODEL).machine) == "linux, 8 processors, 64 GiB of RAM"


def test_the_plan_is_told_what_was_learned() -> None:
    plan = _plan()
    lessons = choose_lessons([_measure(plan)], plan, _facts())
    (sentence,) = render_lessons((*lessons, Lesson("serve.port", 8001, "8000 is taken")))
    assert sentence.startswith("learned: weights ")
    assert "memory outside PyTorch 0.09 GiB, " in sentence and "CUDA graphs 0.33 GiB" in sentence
    assert sentence.endswith("(measured here on 2026-11-23 with vLLM 0.32.0)")


def test_more_cards_are_tried_by_estimates() -> None:
    """What was measured on one card is not what a rank of two would hold."""
    facts = make_facts("Qwen/Qwen2.5-14B-Instruct", make_gpu())
    spec = make_spec({"memory.strategy": "vram_only"})
    learned = (Lesson("measured.weights_bytes", 28 * GIB, "measured"), Lesson("measured.activation_bytes", GIB, "too"))
    (problem,) = make_plan(spec, facts, LOADERS, learned).problems
    assert problem.remedy is not None and "fits with 1 more card" in problem.remedy


def test_a_measurement_of_unknown_conditions_teaches_nothing() -> None:
    """Such as a line that an older release or a person wrote."""
    plan = _plan()
    assert choose_lessons([replace(_measure(plan), conditions={})], plan, _facts()) == ()


def test_the_stages_of_a_pipeline_teach_no_sizes_of_all() -> None:
    facts = make_facts(MODEL, make_gpu(), make_gpu())
    spec = make_spec({**SETTINGS, "serve.pipeline_parallel": 2, "serve.tensor_parallel": 1})
    plan = make_plan(spec, facts, LOADERS)
    measurement = _measure(plan, facts)
    assert (measurement.weights_bytes, measurement.overhead_bytes) == (None, None)
    assert _keys(choose_lessons([measurement], plan, facts)) == {
        "measured.non_torch_bytes",
        "measured.cuda_graph_bytes",
    }
