"""One attempt while it serves, by written histories: told once, drained or cut off, and only its own attempt."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.verdict import RunState, step
from nexus_orch.record.events import Adjusting, Advised, Blinded, Proved
from nexus_orch.record.journal import read_journal
from nexus_orch.record.run_folder import create_run_folder
from nexus_orch.record.writer import RunWriter
from nexus_orch.session.door import RunDoor
from nexus_orch.session.dynamic import Watchman
from nexus_orch.types import (
    Finding,
    HostSample,
    Lesson,
    LimitsSpec,
    LogLine,
    Metric,
    MetricsUnread,
    Observation,
    Probed,
    Started,
)
from nexus_orch.view.plain import PlainView
from tests.plan.cases import make_spec, plan_of

LIMITS = LimitsSpec(pressure_seconds=10, drain_seconds=20)
LESSON = Lesson("memory.kv_cache.size_gib", 2.0, "it is full")
BUSY = {"running": 12.0, "waiting": 4.0, "kv_cache_usage": 1.0}


@dataclass
class Stage:
    """A record and a plain view, a server that became ready at 1000, and everything that is told of it."""

    writer: RunWriter
    journal: Path
    stream: io.StringIO = field(default_factory=io.StringIO)
    lesson: Lesson | None = None
    change: str = "memory.kv_cache.size_gib=2"
    found: list[Finding] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.view = PlainView(self.stream)
        self.door = RunDoor(make_spec())
        self.plan = plan_of("Qwen/Qwen2.5-7B-Instruct")
        self.watchman = Watchman(self.plan, LIMITS, self, 1, self._advise)
        self.state = RunState()
        up = "INFO:     Application startup complete."
        for observation in (
            Started(970.0, 1, 7, ("vllm",)),
            LogLine(999.0, 1, up),
            Probed(999.0, 1, "health", True),
            Probed(1000.0, 1, "completion", True),
        ):
            self.observe(observation)

    def observe(self, observation: Observation) -> None:
        self.state = step(self.state, observation)
        if self.state.was_ready:
            self.watchman.observe(observation, self.state)

    def metrics(self, seconds: int, values: Mapping[str, float], attempt: int = 1) -> Stage:
        for _ in range(seconds):
            self.now += 1
            self.observe(Metric(self.now, attempt, values))
        return self

    @property
    def entries(self) -> list[str]:
        kept = (Proved, Advised, Adjusting, Blinded)
        return [type(entry).__name__ for entry in read_journal(self.journal).entries if isinstance(entry, kept)]

    def _advise(self, finding: Finding) -> Advice:
        self.found.append(finding)
        return Advice(finding.kind, finding.evidence, self.change, "would hold 24", self.lesson)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    folder = create_run_folder(tmp_path, make_spec(), 0.0)
    stage = Stage(RunWriter(folder), folder.journal)
    yield stage
    stage.writer.close()


def test_a_lack_is_told_once_however_long_it_lasts(stage: Stage) -> None:
    stage.metrics(60, BUSY)
    assert [finding.kind for finding in stage.found] == ["kv_cache_full"]
    assert stage.watchman.adjustment is None
    assert stage.entries == ["Proved", "Advised"]


def test_where_nothing_helps_it_is_told_once_and_looked_at_again_a_window_later(stage: Stage) -> None:
    """The clients' load changes: what did not pay at first may pay now."""
    stage.change = ""
    stage.metrics(35, BUSY)
    assert len(stage.found) == 3 and stage.entries == ["Proved", "Advised"]
    stage.change = "memory.kv_cache.size_gib=2"
    stage.metrics(30, BUSY)
    assert len(stage.found) == 4 and stage.entries == ["Proved", "Advised", "Advised"]


def test_where_nothing_is_to_be_looked_for_nothing_is_found(stage: Stage) -> None:
    """memory.dynamic=off; the proof is made all the same."""
    stage.watchman = Watchman(stage.plan, LIMITS, stage, 1, None)
    stage.metrics(60, BUSY)
    assert stage.entries == ["Proved", "Proved"]


def test_the_restart_waits_until_no_request_is_left(stage: Stage) -> None:
    stage.lesson = LESSON
    stage.metrics(15, BUSY)
    assert stage.watchman.adjustment is None
    assert "restarting with memory.kv_cache.size_gib=2 when the 16 requests have ended" in stage.stream.getvalue()
    assert "cannot connect for about 30 s" in stage.stream.getvalue()
    stage.metrics(1, {"running": 0.0, "waiting": 0.0})
    assert stage.watchman.adjustment is not None
    assert "cut off" not in stage.stream.getvalue()
    assert stage.entries == ["Proved", "Advised", "Adjusting"]


def test_what_has_not_ended_in_time_is_cut_off_and_told(stage: Stage) -> None:
    stage.lesson = LESSON
    stage.metrics(25, BUSY)
    assert stage.watchman.adjustment is None
    stage.metrics(10, BUSY)
    assert stage.watchman.adjustment is not None
    told = "16 requests have not ended in 20 s (limits.drain_seconds) and are cut off"
    assert stage.stream.getvalue().count(told) == 1


def test_samples_of_an_attempt_that_is_over_count_for_nothing(stage: Stage) -> None:
    stage.metrics(60, BUSY, attempt=2)
    assert stage.found == []


def test_the_speed_of_one_request_is_added_to_the_proof(stage: Stage) -> None:
    alone = {"running": 1.0, "waiting": 0.0, "generation_tokens_per_second": 8.0}
    stage.metrics(1, {"running": 0.0}).metrics(5, alone)
    assert stage.entries == ["Proved", "Proved"]


def test_a_watch_that_sees_nothing_says_so_once(stage: Stage) -> None:
    stage.observe(MetricsUnread(1001.0, 1, "/metrics answers with the HTTP status 404"))
    for second in range(60):
        stage.observe(HostSample(1001.0 + second, 1, 1, 2, 0, 0))
    assert stage.entries.count("Blinded") == 1
    assert stage.stream.getvalue().count("would not be noticed: /metrics answers with the HTTP status 404") == 1


def test_a_watch_that_missed_some_answers_says_nothing(stage: Stage) -> None:
    stage.observe(MetricsUnread(1001.0, 1, "/metrics does not answer (ReadTimeout)"))
    stage.metrics(60, {"running": 1.0})
    assert "Blinded" not in stage.entries
