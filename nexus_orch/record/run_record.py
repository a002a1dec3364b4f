"""A run as its folder tells it: read from the files alone, by any process, while the run is on or long after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from nexus_orch.record.journal import RunJournal, read_journal
from nexus_orch.record.run_folder import RunFolder
from nexus_orch.record.samples import Latest, read_latest
from nexus_orch.types import Degraded, Exited, Failed, Lesson, Probed, ProcessKey, Ready, Stage, Starting, Verdict

RunStatus = Literal["starting", "ready", "degraded", "stopped", "failed", "lost"]
"""`lost`: the supervisor is gone and never said how the run ended; engine processes may be left over."""

IsAlive = Callable[[ProcessKey, str], bool]
"""Whether this process of the machine of this name still runs; True when that cannot be known from here."""

AttemptEntry = Planned | Launched | Judged | Proved | Advised | AttemptEnded | Exited

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
    returncode: int | None = None
    proof: tuple[Comparison, ...] = ()
    """Plan and measurement as they were when it became ready."""
    advice: tuple[Advice, ...] = ()
    """What was found while it served."""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run. `notes` say what could not be read; times are seconds since the epoch."""

    id: str
    path: Path
    state: RunStatus = "lost"
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
    """The main process of the latest attempt."""
    pgid: int | None = None
    mark: str | None = None
    family: tuple[ProcessKey, ...] = ()
    """Every engine process of the latest attempt that was ever seen, in order of appearance."""
    attempts: tuple[AttemptRecord, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    latest: Latest = field(default_factory=Latest)
    notes: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """The run is not supervised any more."""
        return self.state in ("stopped", "failed", "lost")

    @property
    def stage(self) -> Stage | None:
        """The stage that the latest attempt has reached."""
        return self.attempts[-1].stages[-1][0] if self.attempts and self.attempts[-1].stages else None

    @property
    def progress(self) -> float | None:
        """How much of this stage is done, where the engine tells: a fraction of 1."""
        verdict = self.attempts[-1].verdict if self.attempts else None
        return verdict.progress if isinstance(verdict, Starting) else None


def read_run(path: Path, is_alive: IsAlive) -> RunRecord:
    """Read a run's folder; without latest.json the journal's samples stand in. Raises OSError when it is unreadable."""
    folder = RunFolder(path)
    latest = read_latest(folder.latest)
    return make_record(path, read_journal(folder.journal, samples=latest is None), latest, is_alive)


def make_record(path: Path, journal: RunJournal, latest: Latest | None, is_alive: IsAlive) -> RunRecord:
    """The run that these entries tell of."""
    record = RunRecord(path.name, path, latest=latest or Latest(), notes=journal.notes)
    serving: RunStatus = "starting"
    for entry in journal.entries:
        record = _including(record, entry)
        if isinstance(entry, SAMPLE_TYPES) and latest is None:
            record = replace(record, latest=record.latest.including(entry))
        if isinstance(entry, AttemptEntry):
            record = _including_attempt(record, entry)
        serving = _serving_state(entry, serving)
    if record.exit_code is not None:
        failed = record.cause is not None or record.exit_code not in _STOPPED
        return replace(record, state="failed" if failed else "stopped", stopping=False)
    if record.supervisor is None or not is_alive(record.supervisor, record.host):
        return replace(record, state="lost", stopping=False)
    return replace(record, state=serving)


def _serving_state(entry: Entry, before: RunStatus) -> RunStatus:
    """What a run that is on does, after this entry. A failed attempt is followed by another one, or by the end."""
    match entry:
        case Judged(verdict=Ready()):
            return "ready"
        case Judged(verdict=Degraded()):
            return "degraded"
        case Judged(verdict=Starting() | Failed()) | Planned() | Launched():
            return "starting"
    return before


def _including(record: RunRecord, entry: Entry) -> RunRecord:
    """The record with one more entry in it."""
    changes: dict[str, Any] = {}
    match entry:
        case Created():
            same = ("name", "model", "hardware", "supervisor", "nexus_version", "host")
            changes = {name: getattr(entry, name) for name in same}
            changes |= {"started": entry.time, "strategy": entry.strategy or ""}
        case Planned(plan=plan):
            changes = {"strategy": plan.get("loader", ""), "engine_version": plan.get("engine_version", "")}
        case Launched():
            changes = {name: getattr(entry, name) for name in ("engine", "url", "port", "pgid", "mark")}
            changes |= {"family": (entry.engine,)}
        case Family():
            changes = {"family": tuple(dict.fromkeys([*record.family, *entry.processes]))}
        case Judged(verdict=Ready(measured=measured)) | Probed(ok=True, values=measured):
            changes = {"measured": {**record.measured, **measured}}
        case Stopping():
            changes = {"stopping": True, "reason": entry.reason}
        case Finished() if record.exit_code is None:  # after a lost supervisor two commands may have cleaned up
            changes = {name: getattr(entry, name) for name in ("exit_code", "cause")}
            changes |= {"ended": entry.time, "reason": entry.reason or record.reason}
            changes |= {"measured": {**record.measured, **entry.measured}}
    return replace(record, **changes)


def _including_attempt(record: RunRecord, entry: AttemptEntry) -> RunRecord:
    others = [attempt for attempt in record.attempts if attempt.number != entry.attempt]
    same = [attempt for attempt in record.attempts if attempt.number == entry.attempt]
    changed = _changed_attempt(same[0] if same else AttemptRecord(entry.attempt), entry)
    return replace(record, attempts=tuple(sorted([*others, changed], key=lambda attempt: attempt.number)))


def _changed_attempt(attempt: AttemptRecord, entry: AttemptEntry) -> AttemptRecord:
    changes: dict[str, Any] = {}
    match entry:
        case Planned():
            changes = {"plan": entry.plan}
        case Launched():
            stages = (*attempt.stages, (Stage.STARTING, entry.time))
            changes = {"started": entry.time, "engine": entry.engine, "stages": stages}
        case Judged():
            changes = {"verdict": entry.verdict, "stages": _reached(attempt, entry)}
        case Proved():
            changes = {"proof": entry.comparisons}
        case Advised():
            changes = {"advice": (*attempt.advice, entry.advice)}
        case AttemptEnded():
            changes = {"ended": entry.time, "verdict": entry.verdict, "lessons": entry.lessons}
        case Exited():
            changes = {"returncode": entry.returncode}
    return replace(attempt, **changes)


def _reached(attempt: AttemptRecord, entry: Judged) -> tuple[tuple[Stage, float], ...]:
    """The attempt's stages with the one that this verdict tells of, if it is new."""
    match entry.verdict:
        case Starting(stage=stage):
            reached = stage
        case Ready():
            reached = Stage.READY
        case _:
            return attempt.stages
    known = any(stage == reached for stage, _ in attempt.stages)
    return attempt.stages if known else (*attempt.stages, (reached, entry.time))
