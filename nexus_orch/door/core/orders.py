"""What the door is told of a request, what it decides, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.types.units import MIB


@dataclass(frozen=True)
class DoorLimits:
    """The bounds of a door. Those without another source are judgements, not measurements."""

    waiting: int = 1024
    """Requests that wait to be sent."""
    kept_bytes: int = 256 * MIB
    """Bodies of requests that may have to be sent (again)."""
    unmeasured_start_seconds: float = 300.0
    """Taken for the engine's start until one was measured; as `limits.startup_stall_seconds`."""
    patience: float = 1.5
    """How many starts a request waits for an engine that is not there."""
    least_wait_seconds: float = 10.0
    """However short the starts are: an engine that died must be noticed and taken down first."""
    queue_seconds: float = 600.0
    """How long it waits for its turn at an engine that serves; clients of OpenAI's library wait no longer."""
    verdict_seconds: float = 2.0
    """After an engine failed a request, how long the supervisor's word on its death is awaited (seen within 0.5 s)."""
    doubted_seconds: float = 60.0
    """The same once a process of the engine is known to be gone: its main process may take long to end."""
    loose_resends: float = 10.0
    """Requests that are sent again although the engine lives; each answer earns a tenth of one back."""
    least_proof_seconds: float = 1.0
    most_proof_seconds: float = 10.0
    """A request that was present at a death is cleared when it is worked on for 1.5 times its age at that death,
    within these bounds."""
    marks: int = 4096
    """Requests whose presence at deaths is remembered."""


@dataclass(frozen=True)
class Arrival:
    """A request as far as the door's decisions depend on it."""

    size: int
    """Bytes of its body."""
    fingerprint: str
    """The same for requests that ask the same."""
    weight: int = 1
    """Sequences that it takes of the engine; 0 for one that generates nothing."""
    can_continue: bool = False
    """Whether an answer that was broken off can go on from its tokens."""


@dataclass(frozen=True)
class Send:
    """Send the request to the engine; one that had begun to answer goes on from its tokens."""

    id: int


@dataclass(frozen=True)
class Recall:
    """Give up what was sent: the request waits again."""

    id: int


@dataclass(frozen=True)
class PassOn:
    """Hand on the error with which the engine answered: it lives, so it meant it."""

    id: int


@dataclass(frozen=True)
class Refuse:
    """Answer with this status; nothing had been answered yet. `retry_seconds` is None where trying again is in vain."""

    id: int
    status: int
    message: str
    retry_seconds: int | None = None


@dataclass(frozen=True)
class Break:
    """End an answer that had begun, with an error and no mark of a regular end."""

    id: int
    message: str


Order = Send | Recall | PassOn | Refuse | Break
