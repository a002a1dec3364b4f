"""The terminal, while a run is on, and the report, long after it, show the same run: one fold of the same events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.record.events import Advised, Blinded, Launched, Planned, Proved
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_folder import create_run_folder, encode_plan
from nexus_orch.record.run_record import AttemptRecord, RunRecord, including
from nexus_orch.record.writer import RunWriter
from nexus_orch.types import Command, LogLine, Observation, Plan, Probed, ProcessKey, Stage, Started, Starting, Verdict
from nexus_orch.view.picture import Picture
from nexus_orch.view.report import render_report
from tests.record.examples import SPEC, START, make_created, make_gpu, make_plan
from tests.view.histories import ANSWER, METRICS, SERVING, replay, replay_to_ready

PROOF = (Comparison("KV cache", 2**30, 2**30, "bytes"),)


class Both:
    """A view that keeps the picture, and writes the journal as a session does."""

    def __init__(self, writer: RunWriter) -> None:
        self.picture = Picture()
        self._writer = writer

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        self.picture.plan(plan, run_id, url)
        self._writer.write(Planned(self.picture.now, self.picture.attempt.number, encode_plan(plan)))

    def observe(self, observation: Observation) -> None:
        self.picture.observe(observation)
        self._writer.observe(observation)
        if isinstance(observation, Started):
            engine = ProcessKey(observation.pid, observation.time)
            self._writer.write(Launched(observation.time, observation.attempt, engine, 8000, "http://127.0.0.1:8000"))

    def verdict(self, verdict: Verdict) -> None:
        self.picture.judge(verdict)
        self._writer.judge(self.picture.now, self.picture.attempt.number, verdict)

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        self.picture.prove(comparisons)
        self._writer.write(Proved(self.picture.now, self.picture.attempt.number, comparisons))

    def message(self, text: str) -> None:
        """Not recorded."""

    def answer(self, question: str, answer: Probed) -> None:
        """Observed before."""

    def advice(self, advice: Advice) -> None:
        self._writer.write(Advised(self.picture.now, self.picture.attempt.number, advice))

    def close(self) -> None:
        self._writer.close()


def test_what_the_terminal_shows_is_what_the_report_tells(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, SPEC, START)
    writer = RunWriter(folder)
    writer.write(make_created())
    both = Both(writer)
    replay_to_ready(both)
    both.proof(PROOF)
    replay(both, SERVING)
    both.close()
    live, read = both.picture.record, read_run(folder.path, lambda _process, _host: True)
    assert len(read.attempts) == 2
    assert [_shown(attempt) for attempt in live.attempts] == [_shown(attempt) for attempt in read.attempts]
    for name in ("state", "strategy", "engine_version", "url", "measured", "answer"):
        assert getattr(live, name) == getattr(read, name), name
    assert (read.state, read.answer) == ("degraded", ANSWER)
    assert read.latest.metric is not None and read.latest.metric.values == METRICS == both.picture.metrics
    assert read.latest == live.latest


def _shown(attempt: AttemptRecord) -> AttemptRecord:
    """Without what only the journal knows."""
    return replace(attempt, engine=None)


def test_another_engine_has_told_nothing_yet() -> None:
    """Its cards may be others, and what is known of the host stays."""
    record = RunRecord("x", Path("x"))
    for happening in (make_gpu(START, 0, 20.0, 1), SERVING[0], LogLine(START, 1, "", dropped_bytes=7)):
        record = including(record, happening)  # type: ignore[arg-type]
    assert record.latest.gpus and record.latest.metric
    again = including(record, Started(START + 1, 2, 7, ("vllm",)))
    assert (again.latest.gpus, again.latest.metric) == ((), None)
    assert (again.latest.peaks, again.latest.dropped_bytes) == (record.latest.peaks, 7)
    assert again.attempt == AttemptRecord(2, START + 1, stages=((Stage.STARTING, START + 1),))


def test_how_long_each_stage_took() -> None:
    attempt = AttemptRecord(1, stages=((Stage.STARTING, 10.0), (Stage.LOADING, 12.0)))
    assert list(attempt.spans(15.0)) == [(Stage.STARTING, 10.0, 2.0), (Stage.LOADING, 12.0, 3.0)]
    assert list(attempt.spans(None)) == [(Stage.STARTING, 10.0, 2.0), (Stage.LOADING, 12.0, None)]
    assert list(replace(attempt, ended=13.0).spans(99.0))[1] == (Stage.LOADING, 12.0, 1.0)


def test_the_progress_of_the_ram_is_forgotten_when_the_engine_starts() -> None:
    picture = Picture()
    picture.plan(make_plan(), "a-run", "")
    picture.judge(Starting(Stage.PRELOADING, 0.5))
    before = picture.record
    picture.observe(Started(START, 1, 7, ("vllm",)))
    after = picture.record
    assert (before.stage, before.progress) == (Stage.PRELOADING, 0.5)
    assert (after.stage, after.progress) == (Stage.STARTING, None)


def test_a_report_says_that_a_lack_would_not_have_been_noticed() -> None:
    record = including(RunRecord("x", Path("x"), "stopped"), Blinded(START, 1, "/metrics answers with 404"))
    assert "a lack of memory would not have been noticed: /metrics answers with 404" in render_report(record)
