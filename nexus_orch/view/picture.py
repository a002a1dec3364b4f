"""What a terminal shows of a run: its record, folded as it happens, and what only eyes want. Draws nothing."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nexus_orch.errors import render_value
from nexus_orch.judge.log.lines import parse_line
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.record.events import Judged, Planned, Proved
from nexus_orch.record.run_folder import encode_plan
from nexus_orch.record.run_record import AttemptRecord, Happening, RunRecord, including
from nexus_orch.types import (
    Degraded,
    LogLine,
    MetricsUnread,
    Observation,
    Plan,
    RamProgress,
    Ready,
    Stage,
    StopAsked,
    Verdict,
)
from nexus_orch.view.idle_warnings import is_idle

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
        level = "plain" if is_idle(message) else "warning"
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

    record: RunRecord = field(default_factory=lambda: RunRecord("", Path()))
    first_time: float | None = None
    now: float = 0.0
    """The time of the newest observation."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines of the log as they came: taking them apart can wait until they are drawn."""
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    @property
    def attempt(self) -> AttemptRecord:
        return self.record.attempt

    @property
    def verdict(self) -> Verdict | None:
        return self.attempt.verdict

    @property
    def url(self) -> str:
        return self.record.url or ""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The newest reading of the server's metrics, by our own names."""
        metric = self.record.latest.metric
        return {} if metric is None else metric.values

    @property
    def is_serving(self) -> bool:
        return isinstance(self.verdict, Ready | Degraded)

    @property
    def stage_seconds(self) -> dict[Stage, float]:
        """How long each stage of this attempt took, or has taken up to now."""
        return {stage: seconds or 0.0 for stage, _, seconds in self.attempt.spans(self.now)}

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

    def plan(self, plan: Plan, run_id: str, url: str) -> list[str]:
        """A new attempt begins with this plan; what it does differently from the one before."""
        before = self.record.attempts[-1:]
        number = before[0].number + 1 if before else 1
        self._fold(Planned(self.now, number, encode_plan(plan)))
        self.record = replace(self.record, id=run_id, url=url, model=plan.model)
        return render_changes(before[0].settings, self.attempt.settings) if before else []

    def observe(self, observation: Observation) -> None:
        self.now = max(self.now, observation.time)
        if self.first_time is None:
            self.first_time = observation.time
        match observation:
            case LogLine(text=text):
                self._fold(observation)
                if not any(noise in text for noise in _NOISE):
                    self.lines.append(text)
            case RamProgress() | StopAsked() | MetricsUnread():
                pass
            case _:
                self._fold(observation)

    def judge(self, verdict: Verdict) -> None:
        self._fold(Judged(self.now, self.attempt.number, verdict))

    def prove(self, comparisons: tuple[Comparison, ...]) -> None:
        """Plan and measurement side by side; later lines replace those of the same name."""
        lines = {(line.name, line.unit): line for line in (*self.attempt.proof, *comparisons)}
        self._fold(Proved(self.now, self.attempt.number, tuple(lines.values())))

    def _fold(self, happening: Happening) -> None:
        self.record = including(self.record, happening)
