"""Observations: what is seen of a running engine. `time` is seconds since the epoch, `attempt` counts from 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Started:
    time: float
    attempt: int
    pid: int
    argv: tuple[str, ...]


@dataclass(frozen=True)
class LogLine:
    """One line of the engine's output without its line end. `dropped_bytes` were lost just before it."""

    time: float
    attempt: int
    text: str
    dropped_bytes: int = 0


@dataclass(frozen=True)
class Metric:
    """One reading of the server's /metrics, by our own names (see nexus_orch.observe.metrics)."""

    time: float
    attempt: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class MetricsUnread:
    """The server was asked for its /metrics and told nothing that is known. Told when the reason changes and
    again every few seconds, not each time."""

    time: float
    attempt: int
    reason: str


@dataclass(frozen=True)
class GpuSample:
    """One card. `utilization` is a fraction of 1; None where the driver does not tell."""

    time: float
    attempt: int
    index: int
    name: str
    memory_used_bytes: int
    memory_total_bytes: int
    utilization: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True)
class ProcessSample:
    pid: int
    name: str
    rss_bytes: int
    cpu_fraction: float
    """1.0 is one core."""
    shared_bytes: int = 0
    """The part of `rss_bytes` that others may hold too: files and shared memory. 0 where the system does not tell."""


@dataclass(frozen=True)
class HostSample:
    time: float
    attempt: int
    ram_used_bytes: int
    ram_total_bytes: int
    swap_used_bytes: int
    swap_total_bytes: int
    processes: tuple[ProcessSample, ...] = ()
    swapped_bytes: int | None = None
    """Moved to and from swap since the machine was started; None where the system does not tell."""

    @property
    def engine_bytes(self) -> int:
        """What the engine's processes hold together: each one's own memory, and of what they share the largest part
        once, since libraries and pinned memory are mapped by all of them."""
        own = sum(process.rss_bytes - process.shared_bytes for process in self.processes)
        return own + max((process.shared_bytes for process in self.processes), default=0)


FOREIGN = "foreign"
"""Among a probe's values: the answer came from a process that is not the engine's."""


@dataclass(frozen=True)
class Probed:
    """The answer to one question put to the server. A completion counts as `ok` only when text came back."""

    time: float
    attempt: int
    kind: Literal["health", "completion", "question"]
    ok: bool
    detail: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    """Measured by the probe: output_tokens, time_to_first_token_seconds, tokens_per_second ..."""


@dataclass(frozen=True)
class Exited:
    """The engine's main process ended. `returncode` is negative for a signal, as in `subprocess`."""

    time: float
    attempt: int
    returncode: int


@dataclass(frozen=True)
class Vanished:
    """A process ended that the engine cannot do without (its core, a worker), while its main process lives."""

    time: float
    attempt: int
    pid: int
    name: str


@dataclass(frozen=True)
class StopAsked:
    """The engine is about to be told to stop, because the run is done or somebody wants it to end."""

    time: float
    attempt: int
    reason: str


@dataclass(frozen=True)
class RamProgress:
    """How far the work on host RAM before the launch is. `remaining_seconds` is None while the pace is unknown."""

    time: float
    attempt: int
    step: Literal["reserving", "preloading"]
    done_bytes: int
    total_bytes: int
    bytes_per_second: float | None = None
    remaining_seconds: float | None = None


Observation = (
    RamProgress
    | Started
    | LogLine
    | Metric
    | MetricsUnread
    | GpuSample
    | HostSample
    | Probed
    | Vanished
    | StopAsked
    | Exited
)

Emit = Callable[[Observation], None]
"""Takes what was observed, from any thread."""
