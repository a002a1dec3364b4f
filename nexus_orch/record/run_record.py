"""The record of a run, and the one fold that makes it: event after event, without a clock and without drawing. Pure.

`nexus ps` and `nexus report` fold the journal (`record/read_run.py`); the views fold what they are told while the run
is on. So all of them show the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nexus_orch.errors import ExitCode
from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.record.events import (
    SAMPLE_TYPES,
    Advised,
    AttemptEnded,
    Blinded,
    Continued,
    Created,
    Entry,
    Family,
    Finished,
    Judged,
    Launched,
    Planned,
    Proved,
    Stopping,
)
from nexus_orch.record.samples import Latest
from nexus_orch.types import (
    Degraded,
    Exited,
    Failed,
    Lesson,
    LogLine,
    Probed,
    ProcessKey,
    Ready,
    Stage,
    Started,
    Starting,
    Verdict,
)

RunStatus = Literal["starting", "ready", "degraded", "stopped", "failed", "lost"]
"""`lost`: the supervisor is gone and never said how the run ended; engine processes may be left over."""

Happening = Entry | Started | LogLine
"""What is folded: the journal's entries, and what only those see who watch (of a line, the bytes lost before it)."""

AttemptEntry = Planned | Launched | Started | Judged | Proved | Advised | Blinded | AttemptEnded | Continued | Exited

_STOPPED = (ExitCode.GOOD, ExitCode.ENVIRONMENT, ExitCode.INTERRUPTED)
"""Without a cause, a run that ended so was stopped by somebody."""


@dataclass(frozen=True)
class AttemptRecord:
    """One launch. `stages` are those that it reached, each with the time when it did."""

    number: int
    started: float | None = None
    """When the engine was launched; None when it never was."""
    ended: float | None = None
    engine: ProcessKey | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[tuple[Stage, float], ...] = ()
    verdict: Verdict | None = None
    lessons: tuple[Lesson, ...] = ()
    followed: str = ""
    """Why another attempt follows it, "" where none does."""
    returncode: int | None = None
    proof: tuple[Comparison, ...] = ()
    """Plan and measurement as they were when it became ready."""
    advice: tuple[Advice, ...] = ()
    """What was found while it served."""
    blind: str = ""
    """Why a lack of memory would not have been noticed, "" where it would."""

    @property
    def settings(self) -> dict[str, Any]:
        """The plan's settings by key."""
        return {choice["key"]: choice["value"] for choice in self.plan.get("choices", ())}

    @property
    def stage(self) -> Stage | None:
        """The stage that it has reached."""
        return self.stages[-1][0] if self.stages else None

    def spans(self, until: float | None) -> Iterator[tuple[Stage, float, float | None]]:
        """Each stage with its beginning and its seconds; the last one lasts up to `until`, None where none knows."""
        ends = [begin for _, begin in self.stages[1:]] + [self.ended or until]
        for (stage, begin), end in zip(self.stages, ends, strict=False):
            yield stage, begin, None if end is None else end - begin


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run. `notes` say what could not be read; times are seconds since the epoch."""

    id: str
    path: Path
    state: RunStatus = "starting"
    name: str = ""
    model: str = ""
    hardware: str = ""
    strategy: str = ""
    engine_version: str = ""
    nexus_version: str = ""
    host: str = ""
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    cause: str | None = None
    reason: str = ""
    stopping: bool = False
    """Somebody asked it to end and it has not yet."""
    url: str | None = None
    port: int | None = None
    supervisor: ProcessKey | None = None
    engine: ProcessKey | None = None
    """The main process of the latest attempt; None where it cannot be seen from here."""
    provider: str | None = None
    """The kind of the provider that started the engine of the latest attempt; None while none was started."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What that provider knows it by."""
    project: str = ""
    """The project folder whose plugins took part, "" for none."""
    family: tuple[ProcessKey, ...] = ()
    """Every engine process of the latest attempt that was ever seen, in order of appearance."""
    attempts: tuple[AttemptRecord, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    answer: Probed | None = None
    """What the server said to the user's question."""
    latest: Latest = field(default_factory=Latest)
    notes: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """The run is not supervised any more."""
        return self.state in ("stopped", "failed", "lost")

    @property
    def attempt(self) -> AttemptRecord:
        """The latest attempt; one of which nothing is known where there is none yet."""
        return self.attempts[-1] if self.attempts else AttemptRecord(1)

    @property
    def stage(self) -> Stage | None:
        """The stage that the latest attempt has reached."""
        return self.attempt.stage

    @property
    def progress(self) -> float | None:
        """How much of this stage is done, where the engine tells: a fraction of 1."""
        verdict = self.attempt.verdict
        return verdict.progress if isinstance(verdict, Starting) else None


def including(record: RunRecord, happening: Happening) -> RunRecord:
    """The record with one more event in it."""
    if isinstance(happening, LogLine):
        lost = happening.dropped_bytes
        return replace(record, latest=record.latest.losing(lost)) if lost else record
    if isinstance(happening, SAMPLE_TYPES):
        return replace(record, latest=record.latest.including(happening))
    record = _including_in_run(record, happening)
    return _including_in_attempt(record, happening) if isinstance(happening, AttemptEntry) else record


def _including_in_run(record: RunRecord, happening: Happening) -> RunRecord:
    changes: dict[str, Any] = {}
    match happening:
        case Created():
            same = ("name", "model", "hardware", "supervisor", "nexus_version", "host", "project")
            changes = {name: getattr(happening, name) for name in same}
            changes |= {"started": happening.time, "strategy": happening.strategy or ""}
        case Planned(plan=plan):
            changes = {"strategy": plan.get("loader", ""), "engine_version": plan.get("engine_version", "")}
            changes |= {"state": "starting"}
        case Launched():
            changes = {name: getattr(happening, name) for name in ("engine", "url", "port", "provider", "identity")}
            changes |= {"family": () if happening.engine is None else (happening.engine,)}
            changes |= {"state": "starting", "latest": record.latest.without_engine()}
        case Started():
            changes = {"state": "starting", "latest": record.latest.without_engine()}
        case Family():
            changes = {"family": tuple(dict.fromkeys([*record.family, *happening.processes]))}
        case Judged(verdict=verdict):
            changes = {"state": _state_after(verdict, record.state)}
            if isinstance(verdict, Ready):
                changes |= {"measured": {**record.measured, **verdict.measured}}
        case Probed(ok=ok, values=measured, kind=kind):
            changes = {"measured": {**record.measured, **measured}} if ok and measured else {}
            changes |= {"answer": happening} if kind == "question" else {}
        case Stopping():
            changes = {"stopping": True, "reason": happening.reason}
        case Finished() if record.exit_code is None:  # after a lost supervisor two commands may have cleaned up
            changes = _end_of_run(record, happening)
    return replace(record, **changes) if changes else record


def _state_after(verdict: Verdict, before: RunStatus) -> RunStatus:
    """What a run that is on does. A failed attempt is followed by another one, or by the end."""
    match verdict:
        case Ready():
            return "ready"
        case Degraded():
            return "degraded"
        case Starting() | Failed():
            return "starting"
    return before


def _end_of_run(record: RunRecord, end: Finished) -> dict[str, Any]:
    failed = end.cause is not None or end.exit_code not in _STOPPED
    return {
        "state": "failed" if failed else "stopped",
        "stopping": False,
        "exit_code": end.exit_code,
        "cause": end.cause,
        "ended": end.time,
        "reason": end.reason or record.reason,
        "measured": {**record.measured, **end.measured},
    }


def _including_in_attempt(record: RunRecord, entry: AttemptEntry) -> RunRecord:
    others = [attempt for attempt in record.attempts if attempt.number != entry.attempt]
    same = [attempt for attempt in record.attempts if attempt.number == entry.attempt]
    changed = _changed_attempt(same[0] if same else AttemptRecord(entry.attempt), entry)
    return replace(record, attempts=tuple(sorted([*others, changed], key=lambda attempt: attempt.number)))


def _changed_attempt(attempt: AttemptRecord, entry: AttemptEntry) -> AttemptRecord:
    changes: dict[str, Any] = {}
    match entry:
        case Planned():
            changes = {"plan": entry.plan}
        case Launched() | Started():
            changes = {"started": entry.time, "stages": _reached(attempt, Stage.STARTING, entry.time), "verdict": None}
            changes |= {"engine": entry.engine} if isinstance(entry, Launched) else {}
        case Judged():
            changes = {"verdict": entry.verdict, "stages": _reached(attempt, _stage_of(entry.verdict), entry.time)}
        case Proved():
            changes = {"proof": entry.comparisons}
        case Advised():
            changes = {"advice": (*attempt.advice, entry.advice)}
        case Blinded():
            changes = {"blind": entry.reason}
        case AttemptEnded():
            changes = {"ended": entry.time, "verdict": entry.verdict, "lessons": entry.lessons}
        case Continued():
            changes = {"followed": entry.message}
        case Exited():
            changes = {"returncode": entry.returncode}
    return replace(attempt, **changes)


def _stage_of(verdict: Verdict) -> Stage | None:
    """The stage that a verdict tells of; an end is none."""
    match verdict:
        case Starting(stage=stage):
            return stage
        case Ready():
            return Stage.READY
    return None


def _reached(attempt: AttemptRecord, stage: Stage | None, time: float) -> tuple[tuple[Stage, float], ...]:
    """The attempt's stages with this one, if it is new."""
    known = stage is None or any(stage == reached for reached, _ in attempt.stages)
    return attempt.stages if known or stage is None else (*attempt.stages, (stage, time))
