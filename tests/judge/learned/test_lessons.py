"""What a failed start teaches the next plan: a fact of its log, once, and never against the user's word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nexus_orch.judge.learned.lessons import learn
from nexus_orch.judge.log.measured import Measured, RankMeasured
from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, MIB, Cause, Facts, Failed, Lesson, Plan
from tests.judge.logs import read
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

MODEL = "Qwen/Qwen2.5-14B-Instruct"
OOM = (
    "(EngineCore pid=7) ERROR 11-22 12:30:47 [core.py:1231] torch.OutOfMemoryError: CUDA out of memory. Tried to "
    "allocate 270.00 MiB. GPU 0 has a total capacity of 23.52 GiB of which 103.06 MiB is free. Including non-PyTorch "
    "memory, this process has 23.32 GiB memory in use."
)


def _facts() -> Facts:
    return make_facts(MODEL, make_gpu(), ram_gib=128)


def _plan(lessons: tuple[Lesson, ...] = (), **settings: Any) -> Plan:
    pinned = {key.replace("__", "."): value for key, value in settings.items()}
    return make_plan(make_spec(pinned), _facts(), LOADERS, lessons)


def _learn(
    cause: Cause, plan: Plan, numbers: Mapping[str, Any] | None = None, *evidence: str, known: tuple[Lesson, ...] = ()
) -> dict[str, Any]:
    measured = Measured(ranks={"EngineCore pid=7": RankMeasured(**(numbers or {}))})
    lessons = learn(Failed(cause, evidence, "remedy"), measured, plan, _facts(), known)
    return {lesson.key: lesson.value for lesson in lessons}


def _oom(wanted: int = 270 * MIB, free: int = 103 * MIB, process: int = 23 * GIB) -> dict[str, int]:
    return {"oom_wanted_bytes": wanted, "oom_free_bytes": free, "oom_process_bytes": process}


def test_the_14b_model_is_shared_with_host_ram() -> None:
    plan = _plan()
    assert plan.fits and any(card.offloaded_bytes for card in plan.per_gpu)


def test_the_numbers_of_a_lack_of_memory_are_read() -> None:
    measured = read(OOM).measured
    assert measured.of_engine("oom_wanted_bytes") == 270 * MIB
    assert measured.of_engine("oom_free_bytes") == round(103.06 * MIB)
    assert measured.of_engine("oom_process_bytes") == round(23.32 * GIB)


@pytest.mark.parametrize("cause", ["offload_ignored", "offload_unsupported", "pinned_memory_unavailable"])
@pytest.mark.parametrize(("used", "other"), [("uva", "prefetch"), ("prefetch", "uva")])
def test_another_way_of_offloading_is_tried_once(cause: Cause, used: str, other: str) -> None:
    """A plan whose backend was learned is like one that derived it."""
    before = (Lesson("memory.offload_backend", used, "to have it"),)
    plan = _plan(before)
    assert plan.settings["memory.offload_backend"] == used
    assert _learn(cause, plan) == {"memory.offload_backend": other}
    tried = (Lesson("memory.offload_backend", other, "tried"),)
    again = _plan(tried)
    choice = again.choice("memory.offload_backend")
    assert choice is not None and (choice.value, choice.origin) == (other, "learned")
    assert _learn(cause, again, known=tried) == {}


def test_a_pinned_way_of_offloading_is_never_left() -> None:
    assert _learn("offload_ignored", _plan(memory__offload_backend="uva")) == {}


def test_an_engine_without_uva_has_no_other_way() -> None:
    assert _learn("pinned_memory_unavailable", _plan(), None, "RuntimeError: UVA is not available") == {}


def test_graphs_that_do_not_fit_are_left_out() -> None:
    plan = _plan(model__max_model_len=2048)
    assert _learn("graph_capture_oom", plan) == {"memory.enforce_eager": True}
    assert "memory.enforce_eager" not in _learn("graph_capture_oom", _plan(memory__enforce_eager=False))


def test_memory_that_runs_out_lowers_the_share_by_what_was_missing() -> None:
    plan = _plan()
    planned = float(plan.settings["memory.gpu_memory_utilization"])
    lower = _learn("runtime_oom", plan, _oom(wanted=GIB, free=0))["memory.gpu_memory_utilization"]
    assert planned - 0.08 < lower < planned - 0.04  # 1.25 of 24 GiB
    assert _learn("runtime_oom", _plan(memory__gpu_memory_utilization=0.9), _oom()) == {}
    assert _learn("runtime_oom", plan) == {}


def test_the_sampler_gets_half_of_the_requests_once() -> None:
    line = "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests."
    known = (Lesson("serve.max_num_seqs", 128, "known"),)
    assert _learn("sampler_oom", _plan(), None, line) == {"serve.max_num_seqs": 128}
    assert _learn("sampler_oom", _plan(), None, line, known=known) == {}
    assert _learn("sampler_oom", _plan(serve__max_num_seqs=256), None, line) == {}


def test_weights_that_are_heavier_than_planned_make_the_next_plan_offload_more() -> None:
    plan = _plan()
    taught = _learn("weights_oom", plan, _oom())
    assert taught["measured.weights_bytes"] > plan.per_gpu[0].weights_bytes + plan.per_gpu[0].offloaded_bytes
    lessons = tuple(Lesson(key, value, "taught") for key, value in taught.items())
    assert _plan(lessons).per_gpu[0].offloaded_bytes > plan.per_gpu[0].offloaded_bytes
    assert _learn("weights_oom", plan, _oom(process=GIB)) == {}


def test_a_larger_activation_peak_makes_the_next_plan_offload_more() -> None:
    plan = _plan()
    card = plan.per_gpu[0]
    held = card.weights_bytes + card.non_torch_bytes + card.activation_bytes + GIB
    taught = _learn("profile_oom", plan, {"weights_bytes": card.weights_bytes, **_oom(process=held)})
    assert taught["measured.activation_bytes"] == card.activation_bytes + GIB + 270 * MIB
    lessons = tuple(Lesson(key, value, "taught") for key, value in taught.items())
    assert _plan(lessons).per_gpu[0].offloaded_bytes > card.offloaded_bytes


def test_a_balance_that_was_printed_is_planned_with() -> None:
    """No room for the KV cache: the overhead that the engine measured replaces the estimate."""
    plan = _plan()
    card = plan.per_gpu[0]
    printed = {"weights_bytes": card.weights_bytes, "kv_cache_bytes": -GIB}
    taught = _learn("no_kv_cache_memory", plan, printed)
    assert taught["measured.activation_bytes"] > card.activation_bytes + GIB
    lessons = tuple(Lesson(key, value, "taught") for key, value in taught.items())
    assert _plan(lessons).per_gpu[0].offloaded_bytes > card.offloaded_bytes
    assert _learn("no_kv_cache_memory", plan, printed, known=lessons) == {}


@pytest.mark.parametrize("cause", ["host_oom", "unsupported_block_size", "worker_died", "unknown", "engine_dead"])
def test_what_tells_no_number_teaches_nothing(cause: Cause) -> None:
    assert _learn(cause, _plan(), _oom()) == {}
