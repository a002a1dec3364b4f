"""What follows an attempt, and the advice that an attempt gets: bounded, never against a pin, never back and forth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.errors import ConfigError
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.judge.log.measured import Measured, RankMeasured
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.verdict import RunState
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.adjust import Adviser
from nexus_orch.session.course import Course, is_same_launch
from nexus_orch.session.prepare import Preparation, make_preparation
from nexus_orch.session.refuse import refusal_of
from nexus_orch.session.run import NOT_PLANNED
from nexus_orch.types import GIB, Cause, Failed, Finding, Lesson, LimitsSpec, MemorySpec, Ready, Stopped
from tests.judge.histories import History
from tests.judge.logs import lines_of
from tests.plan.cases import make_facts, make_gpu, make_spec
from tests.plugins.plans import shipped_plugins

MODEL = "Qwen/Qwen3-8B"
LARGE = "Qwen/Qwen2.5-14B-Instruct"
FULL = Finding("preemptions", 300, "17 preemptions a minute", running=12, waiting=12, kv_cache_usage=1.0)
FP8 = Lesson("memory.kv_cache.dtype", "fp8", "17 preemptions a minute")
ADJUSTED = Advice("preemptions", "17 preemptions a minute", "memory.kv_cache.dtype=fp8", "would hold 24", FP8)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins(None)


@pytest.fixture(autouse=True)
def no_learning(monkeypatch: pytest.MonkeyPatch, isolated_home: object) -> None:
    monkeypatch.setenv("NEXUS_LEARN", "0")


def _prepare(plugins: Plugins, model: str = MODEL, *lessons: Lesson, **settings: Any) -> Preparation:
    facts = make_facts(model, make_gpu(), ram_gib=128)
    facts = replace(facts, engine=replace(facts.engine, flags=catalogue_flags(facts.engine.version)))
    spec = make_spec({key.replace("__", "."): value for key, value in settings.items()})
    return make_preparation(spec, facts, plugins.engines()["local"], plugins, lessons)


def _course(**limits: Any) -> Course:
    return Course(MemorySpec(dynamic="act"), LimitsSpec(**limits))


def _state(*, ready: bool = False) -> RunState:
    return RunState(completed=1.0 if ready else None)


def _failed(cause: Cause) -> Failed:
    return Failed(cause, (), "remedy")


def test_under_act_what_is_open_is_changed(plugins: Plugins) -> None:
    advice = Adviser(_prepare(plugins), plugins, may_act=True).advise(FULL)
    assert advice.lesson == FP8
    assert advice.text.startswith("17 preemptions a minute; memory.kv_cache.dtype=fp8 would hold 24 requests instead")


def test_what_is_pinned_is_advised_and_never_changed(plugins: Plugins) -> None:
    prepared = _prepare(plugins, memory__kv_cache__dtype="bfloat16")
    advice = Adviser(prepared, plugins, may_act=True).advise(FULL)
    assert advice.change == "memory.kv_cache.dtype=fp8" and advice.lesson is None


def test_without_leave_to_act_there_is_only_advice(plugins: Plugins) -> None:
    advice = Adviser(_prepare(plugins), plugins).advise(FULL)
    assert advice.change and advice.lesson is None


def test_a_setting_that_was_moved_is_not_proposed_again(plugins: Plugins) -> None:
    advice = Adviser(_prepare(plugins), plugins, moved={"memory.kv_cache.dtype": 0}, may_act=True).advise(FULL)
    assert advice.lesson is None and advice.change == ""


def test_an_adjustment_is_followed_by_its_plan(plugins: Plugins) -> None:
    course = _course()
    step = course.after(Stopped("adjustment"), _state(ready=True), ADJUSTED, _prepare(plugins))
    assert step is not None and (step.kind, step.lessons) == ("adjust", (FP8,))
    assert course.lessons == (FP8,)
    course.note_plan(step, _prepare(plugins).plan, _prepare(plugins, MODEL, FP8).plan)
    assert "memory.kv_cache.dtype" in course.moved


@pytest.mark.parametrize(("allowed", "may"), [(0, False), (1, True)])
def test_adjustments_are_counted(plugins: Plugins, allowed: int, may: bool) -> None:
    course = _course(adjustments=allowed)
    assert course.may_adjust == may
    course.after(Stopped("adjustment"), _state(ready=True), ADJUSTED, _prepare(plugins))
    assert not course.may_adjust


def test_an_adjusted_plan_that_fails_is_taken_back_once_and_for_all(plugins: Plugins) -> None:
    course, prepared = _course(adjustments=5), _prepare(plugins)
    course.after(Stopped("adjustment"), _state(ready=True), ADJUSTED, prepared)
    back = course.after(_failed("worker_died"), _state(), None, prepared)
    assert back is not None and (back.kind, course.lessons, course.may_adjust) == ("back", (), False)
    assert course.after(_failed("worker_died"), _state(), None, prepared) is None


def test_an_adjusted_plan_that_serves_is_kept(plugins: Plugins) -> None:
    course, prepared = _course(), _prepare(plugins)
    course.after(Stopped("adjustment"), _state(ready=True), ADJUSTED, prepared)
    step = course.after(_failed("worker_died"), _state(ready=True), None, prepared)
    assert step is not None and (step.kind, step.lessons) == ("restart", ())
    assert course.lessons == (FP8,)


def test_an_ignored_offload_is_tried_the_other_way_and_then_given_up(plugins: Plugins) -> None:
    course, prepared = _course(), _prepare(plugins, LARGE)
    used = str(prepared.plan.settings["memory.offload_backend"])
    step = course.after(_failed("offload_ignored"), _state(), None, prepared)
    assert step is not None and step.kind == "retry"
    again = _prepare(plugins, LARGE, *course.lessons)
    choice = again.plan.choice("memory.offload_backend")
    assert choice is not None and choice.value != used and choice.origin == "learned"
    assert not is_same_launch(prepared, again)
    assert course.after(_failed("offload_ignored"), _state(), None, again) is None


def test_the_other_way_on_a_release_that_lacks_it_ends_the_run_with_what_failed(plugins: Plugins) -> None:
    """Before 0.19.1 there is UVA alone: what was learned asks for what cannot be had, and no attempt follows."""
    lesson = Lesson("memory.offload_backend", "prefetch", "the engine did not offload what was planned with uva")
    facts = make_facts(LARGE, make_gpu(), ram_gib=128, version="0.16.0")
    spec = make_spec({"memory.strategy": "hybrid"})
    refusal = refusal_of(make_preparation(spec, facts, plugins.engines()["local"], plugins, (lesson,)))
    assert isinstance(refusal, ConfigError) and isinstance(refusal, NOT_PLANNED)
    assert "has no prefetch offloader" in refusal.problems[0].message


def test_a_pinned_backend_ends_the_run(plugins: Plugins) -> None:
    prepared = _prepare(plugins, LARGE, memory__offload_backend="uva")
    assert _course().after(_failed("offload_ignored"), _state(), None, prepared) is None


def test_memory_that_others_gave_back_leads_to_the_same_start_once_more(plugins: Plugins) -> None:
    """A real failure: 8.5 GiB came back to the card while vLLM 0.25.1 measured it."""
    history = History().started().log(*lines_of("0.25.1-h200-q7_memory_given_back")).exited(1)
    state = history.state()
    course, prepared = _course(attempts=5), _prepare(plugins)
    step = course.after(state.verdict, state, None, prepared)
    assert step is not None and (step.kind, step.lessons, course.lessons) == ("again", (), ())
    assert course.after(state.verdict, state, None, prepared) is None
    assert _course(attempts=1).after(state.verdict, state, None, prepared) is None


def test_attempts_bound_the_failures(plugins: Plugins) -> None:
    prepared = _prepare(plugins, LARGE)
    assert _course(attempts=1).after(_failed("offload_ignored"), _state(), None, prepared) is None


def test_a_run_that_was_done_ends(plugins: Plugins) -> None:
    assert _course().after(Stopped("done"), _state(ready=True), None, _prepare(plugins)) is None
    assert _course().after(Ready({}), _state(ready=True), None, _prepare(plugins)) is None


def test_memory_that_runs_out_while_serving_lowers_the_share(plugins: Plugins) -> None:
    rank = RankMeasured(oom_wanted_bytes=2 * GIB, oom_free_bytes=GIB // 2, oom_process_bytes=20 * GIB)
    state = replace(_state(ready=True), reading=LogReading(measured=Measured(ranks={"EngineCore pid=7": rank})))
    prepared = _prepare(plugins)
    step = _course().after(_failed("runtime_oom"), state, None, prepared)
    assert step is not None and [lesson.key for lesson in step.lessons] == ["memory.gpu_memory_utilization"]
    assert (
        step.kind == "restart" and "died while it served (runtime_oom): it is started again; 2.00 GiB" in step.message
    )


def test_an_engine_that_dies_while_it_serves_is_started_again_with_longer_and_longer_pauses(plugins: Plugins) -> None:
    course, prepared = _course(deaths=6), _prepare(plugins)
    steps = [course.after(_failed("engine_dead"), _state(ready=True), None, prepared) for _ in range(6)]
    assert [step.pause_seconds for step in steps[:5] if step is not None] == [0, 5, 30, 60, 60]
    assert steps[5] is None
    assert course.given_up.startswith("it is given up: 6 deaths without 10 minutes or 1,000 output tokens between them")


@pytest.mark.parametrize(("now", "tokens"), [(700.0, 0.0), (60.0, 1000.0)])
def test_what_served_long_enough_before_it_died_is_never_given_up(plugins: Plugins, now: float, tokens: float) -> None:
    course, prepared = _course(), _prepare(plugins)
    state = replace(_state(ready=True), ready_since=1.0, time=now, served_tokens=tokens)
    for _ in range(20):
        step = course.after(_failed("engine_dead"), state, None, prepared)
        assert step is not None and (step.kind, step.pause_seconds) == ("restart", 0)


@pytest.mark.parametrize("cause", ["cards_lost", "disk_full"])
def test_what_no_start_mends_is_not_started_again(plugins: Plugins, cause: Cause) -> None:
    course = _course()
    assert course.after(_failed(cause), _state(ready=True), None, _prepare(plugins)) is None
    assert cause in course.given_up


def test_a_run_for_one_answer_is_not_started_again(plugins: Plugins) -> None:
    course = Course(MemorySpec(), LimitsSpec(), serves=False)
    assert course.after(_failed("engine_dead"), _state(ready=True), None, _prepare(plugins)) is None


def test_starts_that_fail_are_counted_since_the_engine_served_last(plugins: Plugins) -> None:
    course, prepared = _course(attempts=2, deaths=9), _prepare(plugins, LARGE)
    course.after(_failed("worker_died"), _state(), None, prepared)
    course.after(_failed("engine_dead"), _state(ready=True), None, prepared)
    step = course.after(_failed("offload_ignored"), _state(), None, prepared)
    assert step is not None and step.kind == "retry"


def test_the_pin_that_stands_in_the_way_is_named(plugins: Plugins) -> None:
    measured = Measured(max_model_len_possible=4096)
    state = replace(_state(), reading=LogReading(measured=measured))
    pinned = _prepare(plugins, MODEL, model__max_model_len=32768)
    course = _course()
    assert course.after(_failed("context_too_long"), state, None, pinned) is None
    assert course.given_up.startswith("no other start is tried, because model.max_model_len=32768 is pinned")
    assert "room for 4,096 tokens" in course.given_up
    course = _course()
    assert course.after(_failed("unknown"), state, None, pinned) is None and course.given_up == ""


CAUSES = st.sampled_from(["engine_dead", "worker_died", "unknown", "offload_ignored", "memory_busy", "disk_full"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CAUSES, st.booleans()), min_size=60, max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_whatever_happens_a_run_ends(history: list[tuple[Cause, bool]], attempts: int, deaths: int) -> None:
    """Each death may be preceded by as many failed starts as are allowed, and there is no other way to go on."""
    course, prepared = _course(attempts=attempts, deaths=deaths), _prepare(shipped_plugins(), LARGE)
    starts = 0
    for cause, ready in history:
        starts += 1
        if course.after(_failed(cause), _state(ready=ready), None, prepared) is None:
            break
    assert starts <= attempts * deaths
