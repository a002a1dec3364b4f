"""What the journal tells: the events of a run, in the order in which they happened.

`time` is seconds since the epoch. Beside these events the journal holds thinned samples (`Metric`, `GpuSample`,
`HostSample`), every `Probed`, `Vanished` and `Exited`; the engine's output is in engine.log and not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.types import Exited, GpuSample, HostSample, Lesson, Metric, Probed, ProcessKey, Vanished, Verdict


@dataclass(frozen=True)
class Created:
    """The run has a folder. `supervisor` is the nexus process that owns the run and alone writes its journal."""

    time: float
    name: str
    model: str
    hardware: str
    supervisor: ProcessKey
    nexus_version: str
    strategy: str | None = None
    """As asked for; the plan says what was chosen."""
    host: str = ""
    """The machine's network name: process ids of another machine (a shared home) say nothing here."""
    project: str = ""
    """The project folder whose plugins took part, "" for none."""


@dataclass(frozen=True)
class Planned:
    """A plan for this attempt; `plan` is the record `Plan` without its spec, as JSON."""

    time: float
    attempt: int
    plan: Mapping[str, Any]


@dataclass(frozen=True)
class Reserved:
    """The host RAM of the run was tried out before the launch. `lack` says what was missing, "" when nothing was."""

    time: float
    attempt: int
    wanted_bytes: int
    held_bytes: int
    seconds: float
    lack: str = ""


@dataclass(frozen=True)
class Preloaded:
    """The weight files were read ahead of the launch, as far as they were not cached. `skipped` says why nothing was
    read, "" when something was."""

    time: float
    attempt: int
    total_bytes: int
    cached_bytes: int
    read_bytes: int
    seconds: float
    channels: int
    cached_files: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Launched:
    """The engine runs. `engine` is its main process, None where its processes cannot be seen from here; `provider` (the
    kind) and `identity` find it again when its supervisor is gone."""

    time: float
    attempt: int
    engine: ProcessKey | None
    port: int
    url: str
    provider: str = "local"
    identity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Engine processes that were not there before; once known, they stay in the record."""

    time: float
    attempt: int
    processes: tuple[ProcessKey, ...]


@dataclass(frozen=True)
class Judged:
    """A new verdict: another stage, some progress inside it, or an end."""

    time: float
    attempt: int
    verdict: Verdict


@dataclass(frozen=True)
class Proved:
    """The server is ready: what was planned beside what was measured. A later one of the attempt replaces this one."""

    time: float
    attempt: int
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Advised:
    """The server has been short of memory, and what would help."""

    time: float
    attempt: int
    advice: Advice


@dataclass(frozen=True)
class Blinded:
    """The server's metrics cannot be read, so that a full KV cache or bus would not be noticed."""

    time: float
    attempt: int
    reason: str


@dataclass(frozen=True)
class Adjusting:
    """The server will be stopped for a better plan, at the latest `drain_seconds` from now."""

    time: float
    attempt: int
    lesson: Lesson
    requests: int
    """Those that were running or waiting."""
    drain_seconds: float


@dataclass(frozen=True)
class AttemptEnded:
    """An attempt is over; its processes are gone. `lessons` are what the next plan will know."""

    time: float
    attempt: int
    verdict: Verdict
    lessons: tuple[Lesson, ...] = ()


@dataclass(frozen=True)
class Continued:
    """Another attempt follows this one: `kind` as in `session/course.py`, `message` says why."""

    time: float
    attempt: int
    kind: str
    message: str
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Stopping:
    """Somebody wants the run to end."""

    time: float
    reason: str
    force: bool = False


@dataclass(frozen=True)
class Finished:
    """The run is over and its processes are gone. The last event of a journal."""

    time: float
    exit_code: int
    cause: str | None = None
    """Why it failed; one of `nexus_orch.types.CAUSES`."""
    reason: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)


RunEvent = (
    Created
    | Planned
    | Reserved
    | Preloaded
    | Launched
    | Family
    | Judged
    | Proved
    | Advised
    | Blinded
    | Adjusting
    | AttemptEnded
    | Continued
    | Stopping
    | Finished
)
Sample = Metric | GpuSample | HostSample
Entry = RunEvent | Sample | Probed | Vanished | Exited

SAMPLE_TYPES: tuple[type[Sample], ...] = (Metric, GpuSample, HostSample)
ENTRY_TYPES: tuple[type[Entry], ...] = (
    Created,
    Planned,
    Reserved,
    Preloaded,
    Launched,
    Family,
    Judged,
    Proved,
    Advised,
    Blinded,
    Adjusting,
    AttemptEnded,
    Continued,
    Stopping,
    Finished,
    Probed,
    Vanished,
    Exited,
    *SAMPLE_TYPES,
)
