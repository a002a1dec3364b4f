"""Verdicts: what the observations mean; lessons: what a failed attempt taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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


PASS_PEAK, COMPILED_PEAK = "measured.activation_bytes", "measured.compiled_activation_bytes"
"""Quantities of a lesson: the peak of the profile of an eager start, and of one that may have compiled the model: that
of compiling it, or of the forward pass alone where it had been compiled before."""
COPY_RATE = "machine.copy_bytes_per_second"
READ_RATE = "machine.read_bytes_per_second"
"""Keys of the bus's lessons, followed by the index of the card: the rate of a copy from pinned memory, and the rate at
which a matrix product reads its weights there."""
LAYER_READS = "machine.layer_reads"
"""Key, followed by the index of the card, of what was measured of whole layers: a tuple of `LayerRead`."""
RAM_RATE = "machine.ram_bandwidth_bytes_per_second"
"""What all processors together read of RAM."""


@dataclass(frozen=True)
class LayerRead:
    """One layer whose matrices a card reads in place, over the bus. `matrices` are rows and columns in the order of the
    layer, `rates` pairs of tokens and bytes per second, each weight counted once."""

    matrices: tuple[tuple[int, int], ...]
    rates: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Lesson:
    """One fact that a launch measured; `make_plan` uses it instead of its own estimate.

    Keys are dotted names of measured quantities, for example "measured.weights_bytes" or "machine.free_bytes.0".
    """

    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class Attempt:
    plan: Plan
    command: Command
    verdict: Verdict
