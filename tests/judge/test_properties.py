"""Whatever lines come in whatever order: the judge never raises, and never calls ready what did not answer."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.judge.log.important import is_important
from nexus_orch.judge.log.reading import LogReading, follow
from nexus_orch.judge.start.diagnosis import judge_log
from nexus_orch.judge.start.verdict import RunState, judge, step
from nexus_orch.types import (
    Exited,
    Failed,
    HostSample,
    LogLine,
    Metric,
    Observation,
    Probed,
    Ready,
    Stage,
    Started,
    Starting,
    StopAsked,
)
from tests.judge.log.test_patterns import TABLE
from tests.judge.logs import LOGS, lines_of, read

pytestmark = pytest.mark.slow

NAMES = sorted(path.stem.removeprefix("vllm-") for path in LOGS.glob("*.log"))
REAL_LINES = sorted({line for name in NAMES for line in lines_of(name)})
EXAMPLES = [entry["example"] for entry in (*TABLE["signatures"], *TABLE["measurements"])]

any_text = st.text(max_size=80)
real_line = st.sampled_from(REAL_LINES) | st.sampled_from(EXAMPLES)
cut_line = st.builds(lambda line, start, end: line[start:end], real_line, st.integers(0, 60), st.integers(0, 400))
joined_line = st.builds(lambda first, second: first + second, real_line, real_line | any_text)
any_line = real_line | cut_line | joined_line | any_text

times = st.floats(0, 2000)
attempts = st.integers(1, 2)
silent: st.SearchStrategy[Observation] = st.one_of(
    st.builds(Started, times, attempts, st.just(1), st.just(())),
    st.builds(LogLine, times, attempts, any_line, st.integers(0, 3)),
    st.builds(Metric, times, attempts, st.dictionaries(st.sampled_from(["running", "x"]), st.floats(), max_size=2)),
    st.builds(HostSample, times, attempts, st.integers(0, 9), st.integers(0, 9), st.just(0), st.just(0)),
    st.builds(Probed, times, attempts, st.sampled_from(["health"]), st.booleans(), any_text),
    st.builds(Probed, times, attempts, st.sampled_from(["completion", "question"]), st.just(False), any_text),
    st.builds(StopAsked, times, attempts, any_text),
    st.builds(Exited, times, attempts, st.integers(-64, 300)),
)


@given(st.lists(any_line, max_size=40))
def test_any_lines_are_judged(lines: list[str]) -> None:
    diagnosis = judge_log(read(*lines))
    assert diagnosis.remedy
    assert diagnosis.evidence or diagnosis.cause in (None, "unknown")


@settings(max_examples=200)
@given(st.lists(silent, max_size=40))
def test_without_an_answer_nothing_is_ready(observations: list[Observation]) -> None:
    assert not isinstance(judge(observations), Ready)


@given(st.lists(silent, max_size=40))
def test_a_failure_stays_one_within_an_attempt(observations: list[Observation]) -> None:
    state, failed_in = RunState(), 0
    for observation in observations:
        state = step(state, observation)
        if failed_in == state.attempt > 0:
            assert isinstance(state.verdict, Failed)
        if isinstance(state.verdict, Failed):
            failed_in = state.attempt


@given(st.lists(any_line, max_size=60))
def test_stages_never_go_backwards(lines: list[str]) -> None:
    observations: list[Observation] = [
        Started(0.0, 1, 1, ()),
        *(LogLine(float(time), 1, line) for time, line in enumerate(lines)),
    ]
    state, reached = RunState(), Stage.STARTING
    order = list(Stage)
    for observation in observations:
        state = step(state, observation)
        if isinstance(state.verdict, Starting):
            assert order.index(state.verdict.stage) >= order.index(reached)
            assert state.verdict.progress is None or 0 <= state.verdict.progress <= 1
            reached = state.verdict.stage


@given(st.sampled_from(NAMES), st.data())
def test_a_log_that_is_cut_off_anywhere_is_judged(name: str, data: st.DataObject) -> None:
    """A log that shows no failure shows none either when its end is missing."""
    text = "\n".join(lines_of(name))
    lines = text[: data.draw(st.integers(0, len(text)))].split("\n")
    whole, part = judge_log(read(*lines_of(name))), judge_log(read(*lines))
    nothing_yet = read(*lines).measured.as_dict() == {}
    assert whole.cause is not None or part.cause is None or (part.cause == "unknown" and nothing_yet)


@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_ordinary_lines_may_come_in_any_order(name: str, random: Random) -> None:
    """Processes write past each other: only the lines that matter keep their order."""
    lines = lines_of(name)
    ordinary = [index for index, line in enumerate(lines) if not is_important(line) and is_ordinary(line)]
    shuffled = list(ordinary)
    random.shuffle(shuffled)
    mixed = list(lines)
    for index, other in zip(ordinary, shuffled, strict=True):
        mixed[index] = lines[other]
    assert judge_log(read(*mixed)).cause == judge_log(read(*lines)).cause


def is_ordinary(line: str) -> bool:
    """True for a line that says nothing by itself."""
    return follow(LogReading(), line).evidence.matches == ()
