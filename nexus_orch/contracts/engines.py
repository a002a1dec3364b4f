"""What a plugin implements that offers a place where vLLM can run: processes of this machine, containers ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import RawIOBase
from typing import IO, TYPE_CHECKING, Any, Protocol

from nexus_orch.contracts.adapters import Rendering
from nexus_orch.errors import Problem
from nexus_orch.types import Command, EngineFacts, Facts, Plan, ProcessKey, RunSpec

if TYPE_CHECKING:
    from nexus_orch.types import Emit


@dataclass(frozen=True)
class EngineOrder:
    """A run in the words of its engine: what a provider makes a command of. The spec is that of the plan."""

    rendering: Rendering
    facts: Facts
    plan: Plan


ByteStream = IO[bytes] | RawIOBase
"""What an engine prints: a pipe, a socket."""


class OutputPump(Protocol):
    """What reads the output of an engine, in threads of its own."""

    def wait(self, timeout_seconds: float) -> bool:
        """True once the output has ended and all of it is written down and passed on as `LogLine`."""


@dataclass(frozen=True)
class EngineStart:
    """One start: the command, and who is told what becomes of it."""

    command: Command
    """As the provider's `command` made it, secrets in plain words."""
    run_id: str
    attempt: int
    """Counted from 1; the number that each observation carries."""
    emit: Emit
    """Takes an observation, from any thread, at any time."""
    pump: Callable[[ByteStream], OutputPump]
    """Reads a binary stream (with a file descriptor) to its end into engine.log and into observations, and closes it.
    It never makes the writer wait."""


@dataclass(frozen=True)
class EngineRecord:
    """What is written down of an engine while it runs, and enough to find it again: by another process, after the one
    that started it was killed."""

    run_id: str
    kind: str
    """Of the provider that started it."""
    identity: Mapping[str, Any]
    """What its provider knows it by, as plain JSON."""
    family: tuple[ProcessKey, ...] = ()
    """Its processes on this machine as they were seen last, the main one first; empty where they cannot be seen."""


@dataclass(frozen=True)
class LeftProcess:
    """One living process of an engine, for people."""

    pid: int
    name: str
    rss_bytes: int


class Hurry(Protocol):
    """A wish to be quick: when it is set, the present rung of the ladder ends at once."""

    def wait(self, timeout: float) -> bool:
        """Wait so long, at most until it is set; whether it is."""

    def clear(self) -> None:
        """So that it can be set again for the next rung."""


@dataclass(frozen=True)
class StopReport:
    """How an engine was stopped.

    `rung` is the signal, or the step, after which the last of it was gone, None when all was gone before. `killed` had
    to be killed. `survivors` are still there, and `problems` say with a remedy what is left behind.
    """

    rung: str | None
    seconds: float
    killed: tuple[ProcessKey, ...] = ()
    survivors: tuple[ProcessKey, ...] = ()
    problems: tuple[Problem, ...] = ()


class LeftEngine(Protocol):
    """An engine that was started, by this process or by one that is gone."""

    def list_processes(self) -> Sequence[LeftProcess]:
        """What lives of it now; it may take a look at the whole process table."""

    def stop(
        self,
        *,
        stop_seconds: float,
        force: bool = False,
        hurry: Hurry | None = None,
        on_rung: Callable[[str], None] | None = None,
    ) -> StopReport:
        """End all of it and say how: ask, insist, kill, waiting `stop_seconds` on each rung at most.

        `force` kills at once. `on_rung` is told each rung before it is climbed. What is gone already is no error.
        """


class RunningEngine(LeftEngine, Protocol):
    """An engine that this process has started.

    It emits `Started` at once, `LogLine` for what it prints, `Vanished` for a process that it cannot do without and
    that ended before it, where it can see that, and `Exited` once: when it has ended, after the last of its output.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `EngineRecord`; the same as long as it runs."""

    def family(self) -> Sequence[ProcessKey]:
        """Its processes on this machine as they were seen last, the main one first; cheap."""

    def look(self) -> None:
        """Look for its processes now, so that `family` is true."""

    def owns_port(self, port: int) -> bool:
        """Whether it is this very engine that listens on the port of this machine; also when nobody can tell."""

    def wait(self, timeout_seconds: float) -> int | None:
        """The return code, negative for a signal, once it has ended and `Exited` was emitted; None while it has not."""


class EngineProvider(Protocol):
    """A place where vLLM can run. A class that names it as its base inherits the values below.

    One whose engines are children of this process takes `nexus_orch.launch.processes.local.LocalProcesses` as its base:
    then only `find` and `command` are left to write.
    """

    kind: str
    """As in `engine.kind`."""
    order: int = 50
    """Where no kind is named, the provider of the lowest order is taken; that of `local` is 0."""
    settings: Mapping[str, Mapping[str, Any]] = {}
    """The settings that it adds, each with its JSON Schema: `{"image": {"type": "string", "description": ...}}` is
    `plugin.image` in a run, and `spec.plugin["image"]` here."""

    def find(self, spec: RunSpec, *, cpu: bool) -> EngineFacts | None:
        """The engine that this run means, with its version and options read without importing it; None when there is
        none. `cpu` asks for an engine that runs without a GPU. Raises ConfigError when the run names an engine that is
        broken or not of the wanted version."""

    def why_not_ready(self, spec: RunSpec, facts: Facts) -> Problem | None:
        """Why nothing can be started here now although a plan can be made, with the remedy; None when it can."""
        return None

    def command(self, order: EngineOrder) -> Command:
        """The command that starts it; `order.plan.spec.engine.env`, the user's own variables, has the last word. Pure,
        but for secrets, which are read from the environment: raises ConfigError where one is missing."""

    def start(self, start: EngineStart) -> RunningEngine:
        """Start it. Raises LaunchError when it cannot be started."""

    def reopen(self, record: EngineRecord) -> LeftEngine | None:
        """What is left of an engine that an earlier process has started; None when it is gone."""
