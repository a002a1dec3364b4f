"""The state of a run as it is shown: folded from observations and verdicts, without any drawing."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nexus_orch.errors import render_value
from nexus_orch.judge.log.lines import parse_line
from nexus_orch.types import (
    Degraded,
    Exited,
    Failed,
    GpuSample,
    HostSample,
    LogLine,
    Metric,
    Observation,
    Plan,
    Probed,
    Ready,
    Stage,
    Started,
    Starting,
    Stopped,
    Verdict,
)

Level = Literal["plain", "warning", "error"]

KEPT_LINES = 200

_ERROR = re.compile(r"^Traceback \(most recent call last\)|^[\w.]*(Error|Exception)\b")
_WARNING = re.compile(r"\b\w*Warning: ")
_NOISE = ('"GET /health HTTP/', '"GET /metrics HTTP/', "] Route: /")
"""Lines that nobody looks for: the notes of being watched (one a second, mostly by us) and the list of all routes."""

STAGES_AHEAD = (Stage.RESERVING, Stage.PRELOADING)
"""Not every start has these."""

_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Terminal control sequences (ECMA-48 CSI, OSC and two-character escapes) and single control characters."""


@dataclass(frozen=True)
class ShownLine:
    """A line of the engine's log without vLLM's prefix; `process` is the part of vLLM that wrote it."""

    text: str
    level: Level = "plain"
    process: str = ""
    module: str = ""


def make_shown_line(text: str) -> ShownLine:
    """What is shown of one log line: no control characters, no date, no source file."""
    record = parse_line(text)
    message = _CONTROL.sub("", record.message.replace("\t", "    "))
    process = (record.process or "").partition(" pid=")[0]
    level: Level = "plain"
    if record.level in ("ERROR", "CRITICAL") or (record.level is None and _ERROR.search(message)):
        level = "error"
    elif record.level == "WARNING" or (record.level is None and _WARNING.search(message)):
        level = "warning"
    return ShownLine(message, level, process, record.module or "")


def render_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What another plan does differently, one setting each ("memory.cpu_offload_gib 14.0 -> 16.0")."""
    return [
        f"{key} {render_value(before.get(key))} -> {render_value(after.get(key))}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


@dataclass
class Picture:
    """What there is to see of a run. Times are those of the observations, in seconds since the epoch."""

    model: str = ""
    strategy: str = ""
    engine_version: str = ""
    run_id: str = ""
    url: str = ""
    settings: Mapping[str, Any] | None = None
    """Those of the newest plan."""
    attempt: int = 1
    first_time: float | None = None
    now: float = 0.0
    """The time of the newest observation."""
    verdict: Verdict | None = None
    stages: dict[Stage, float] = field(default_factory=dict)
    """When this attempt reached each stage."""
    gpus: dict[int, GpuSample] = field(default_factory=dict)
    host: HostSample | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines of the log as they came: taking them apart can wait until they are drawn."""
    dropped_bytes: int = 0
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    answer: Probed | None = None
    proof: list[str] = field(default_factory=list)
    """The lines of the table of plan and measurement."""
    returncode: int | None = None

    @property
    def stage(self) -> Stage | None:
        """The stage that this attempt is in."""
        return next(reversed(self.stages), None)

    @property
    def is_serving(self) -> bool:
        return isinstance(self.verdict, Ready | Degraded)

    def stage_seconds(self, stage: Stage) -> float | None:
        """How long a stage took, or has taken up to now; None when it was not reached."""
        if stage not in self.stages:
            return None
        later = [time for time in self.stages.values() if time > self.stages[stage]]
        return min(later, default=self.now) - self.stages[stage]

    def last_lines(self, count: int) -> list[ShownLine]:
        """The last lines of the log that are not blank, the newest last."""
        shown: list[ShownLine] = []
        for text in reversed(self.lines):
            if len(shown) >= count:
                break
            line = make_shown_line(text)
            if line.text.strip():
                shown.append(line)
        return shown[::-1]

    def plan(self, plan: Plan, run_id: str, url: str) -> None:
        """A new attempt begins with this plan."""
        self.model, self.strategy, self.engine_version = plan.model, plan.loader, plan.engine_version
        self.settings = plan.settings
        self.stages = {}
        self.run_id, self.url = run_id, url

    def observe(self, observation: Observation) -> None:
        self.now = max(self.now, observation.time)
        if self.first_time is None:
            self.first_time = observation.time
        match observation:
            case Started():
                self._begin_attempt(observation)
            case LogLine():
                self.dropped_bytes += observation.dropped_bytes
                if not any(noise in observation.text for noise in _NOISE):
                    self.lines.append(observation.text)
            case GpuSample():
                self.gpus[observation.index] = observation
            case HostSample():
                self.host = observation
            case Metric():
                self.metrics = observation.values
            case Exited():
                self.returncode = observation.returncode

    def _stages_ahead(self) -> dict[Stage, float]:
        """The stages that this attempt had before its engine was started."""
        return {stage: time for stage, time in self.stages.items() if stage in STAGES_AHEAD}

    def judge(self, verdict: Verdict) -> None:
        self.verdict = verdict
        match verdict:
            case Starting(stage=stage):
                self.stages.setdefault(stage, self.now)
            case Ready():
                self.stages.setdefault(Stage.READY, self.now)
            case Degraded() | Stopped() | Failed():
                pass

    def _begin_attempt(self, started: Started) -> None:
        self.attempt = started.attempt
        self.verdict = None
        self.returncode = None
        self.proof = []
        self.stages = {**self._stages_ahead(), Stage.STARTING: started.time}
        self.gpus = {}
        self.metrics = {}
