"""Verdicts: what the observations mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nexus_orch.types.causes import Cause
from nexus_orch.types.command import Command
from nexus_orch.types.plan import Plan


class Stage(StrEnum):
    """The stages of a start, in their order. The first two come before the engine, and only where a plan has them."""

    RESERVING = "reserving"
    PRELOADING = "preloading"
    STARTING = "starting"
    LOADING = "loading"
    PROFILING = "profiling"
    CAPTURING = "capturing"
    WARMING = "warming"
    READY = "ready"


@dataclass(frozen=True)
class Starting:
    """`progress` is a fraction of 1 inside the stage, None when the engine does not tell."""

    stage: Stage = Stage.STARTING
    progress: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Ready:
    """Process alive, /health good and one real completion came back. `measured` holds what the log and probes told."""

    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Degraded:
    """It serves, but not as it should."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Stopped:
    """It ended because it was told to."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """`evidence` are the log lines (or facts) that show the cause, the most telling one first."""

    cause: Cause
    evidence: tuple[str, ...]
    remedy: str


Verdict = Starting | Ready | Degraded | Stopped | Failed


@dataclass(frozen=True)
class Attempt:
    plan: Plan
    command: Command
    verdict: Verdict
