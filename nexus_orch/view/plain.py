"""Plain lines for a pipe or a log file: one for each event that matters, no control sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO, cast

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.types import (
    GIB,
    Command,
    Degraded,
    Exited,
    Failed,
    LogLine,
    Metric,
    Observation,
    Plan,
    Probed,
    Ready,
    Stage,
    Started,
    Starting,
    StopAsked,
    Stopped,
    Verdict,
)
from nexus_orch.view.detached import DetachedStream
from nexus_orch.view.picture import Picture, make_shown_line
from nexus_orch.view.plan import print_plan
from nexus_orch.view.proof import render_proof
from nexus_orch.view.request import render_request
from nexus_orch.view.server import MeanRates, render_readings
from nexus_orch.view.stream import QuietStream
from nexus_orch.view.words import render_bytes, render_duration, render_rate

STATUS_SECONDS = 30.0
PROGRESS_SECONDS = 10.0
WARNINGS_PER_ATTEMPT = 40
EVIDENCE_LINES = 3
LONGEST_WARNING = 300
TIME_WIDTH = 12


class PlainView:
    """One line for each event, each with the time since the first one. Times come from the observations."""

    def __init__(self, stream: TextIO | DetachedStream) -> None:
        self._stream = QuietStream(stream)
        self._picture = Picture()
        self._warned: set[str] = set()
        self._is_stopping = False
        self._status_time: float | None = None
        self._rates = MeanRates()
        self._progress_time = 0.0

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        is_first = not self._picture.record.attempts
        changes = self._picture.plan(plan, run_id, url)
        if is_first:
            argv, env = ((), {}) if command is None else (command.argv, command.shown_env)
            print_plan(plan, argv, env, cast("TextIO", self._stream))
            self._stream.write_line("")
        parts = [part for part in (plan.model, plan.loader, f"vLLM {plan.engine_version}", url, run_id) if part]
        self._say(", ".join(parts))
        for change in changes:
            self._say(change)

    def observe(self, observation: Observation) -> None:
        self._picture.observe(observation)
        match observation:
            case Started():
                self._begin_attempt(observation)
            case LogLine() if not self._is_stopping:  # what an engine says of being stopped is in its log
                self._log(observation)
            case StopAsked():
                self._is_stopping = True
            case Metric(values=values):
                self._rates.take(values)
            case Exited(returncode=returncode):
                self._say(f"the engine exited with code {returncode}")
        if self._picture.is_serving:
            self._status()

    def verdict(self, verdict: Verdict) -> None:
        before, stage_before = self._picture.verdict, self._picture.attempt.stage
        self._picture.judge(verdict)
        match verdict:
            case Starting():
                self._starting(verdict, stage_before)
            case Ready() if not isinstance(before, Ready):
                self._say(f"ready after {render_duration(self._startup_seconds())}: {self._picture.url}".rstrip(": "))
                self._more(f"ask it: {render_request(self._picture.url, self._picture.attempt.settings)}")
            case Degraded(reason=reason) if before != verdict:
                self._say(f"degraded: {reason}")
            case Failed() if before != verdict:
                self._failed(verdict)
            case Stopped(reason=reason) if before != verdict:
                self._say(f"stopped: {reason}")

    def message(self, text: str) -> None:
        self._say(text)

    def answer(self, question: str, answer: Probed) -> None:
        if not answer.ok:
            self._say(f"no answer: {answer.detail}")
            return
        rate = answer.values.get("tokens_per_second")
        self._say(f"question: {question}")
        self._say("answer:" if rate is None else f"answer, {render_rate(rate)} tokens/s:")
        for line in answer.detail.strip().splitlines():
            self._more(line)

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        self._picture.prove(comparisons)
        lines = render_proof(comparisons)
        if lines:
            self._say("plan and measurement:")
        for line in lines:
            self._more(line)

    def advice(self, advice: Advice) -> None:
        self._say(f"advice: {advice.text}")

    def close(self) -> None:
        self._stream.end()

    def _begin_attempt(self, started: Started) -> None:
        self._warned.clear()
        self._is_stopping = False
        self._status_time = None
        self._say(f"attempt {started.attempt}: engine started, pid {started.pid}")

    def _starting(self, verdict: Starting, stage_before: Stage | None) -> None:
        now = self._picture.now
        new_stage = verdict.stage != stage_before
        if new_stage or (verdict.progress is not None and now - self._progress_time >= PROGRESS_SECONDS):
            self._progress_time = now
            progress = "" if verdict.progress is None else f" {verdict.progress:.0%}"
            detail = f": {verdict.detail}" if verdict.detail else ""
            self._say(f"{verdict.stage.value}{progress}{detail}")

    def _startup_seconds(self) -> float | None:
        started = self._picture.attempt.started
        return None if started is None else self._picture.now - started

    def _failed(self, verdict: Failed) -> None:
        self._say(f"failed: {verdict.cause}")
        for line in verdict.evidence[:EVIDENCE_LINES]:
            self._more(line)
        if verdict.remedy:
            self._more(f"remedy: {verdict.remedy}")

    def _log(self, line: LogLine) -> None:
        """Warnings and errors, of each place in vLLM's source the first one: some are repeated for every weight."""
        if line.dropped_bytes:
            self._say(f"{render_bytes(line.dropped_bytes)} of the engine's output was dropped")
        if len(self._warned) >= WARNINGS_PER_ATTEMPT:
            return
        shown = make_shown_line(line.text)
        place = shown.module or shown.text
        if shown.level != "plain" and place not in self._warned:
            self._warned.add(place)
            self._say(f"{shown.level}: {shown.text[:LONGEST_WARNING]}")

    def _status(self) -> None:
        now = self._picture.now
        if self._status_time is None:
            self._status_time = now
        if now - self._status_time >= STATUS_SECONDS:
            self._status_time = now
            self._say(f"serving: {_describe_status(self._picture, self._rates.read())}")

    def _say(self, text: str) -> None:
        first = self._picture.first_time
        elapsed = render_duration(0.0 if first is None else self._picture.now - first)
        self._stream.write_line(f"{elapsed:>{TIME_WIDTH}}  {' '.join(text.split())}")

    def _more(self, text: str) -> None:
        """A line that belongs to the one before it."""
        self._stream.write_line(f"{'':{TIME_WIDTH}}    {text}")


def render_plain_gap(left_out: int) -> str:
    """What stands for lines that nobody read in time."""
    return f"{'':{TIME_WIDTH}}  {left_out} lines were left out, because nothing read them; the journal has them all\n"


def _describe_status(picture: Picture, rates: Mapping[str, float]) -> str:
    parts = [f"{label} {text}" for label, text in render_readings({**picture.metrics, **rates})]
    latest = picture.record.latest
    for gpu in latest.gpus:
        parts.append(f"GPU {gpu.index} {gpu.memory_used_bytes / GIB:.1f}/{render_bytes(gpu.memory_total_bytes)}")
    if latest.host is not None:
        parts.append(f"RAM {latest.host.ram_used_bytes / GIB:.1f}/{render_bytes(latest.host.ram_total_bytes)}")
    return ", ".join(parts)
