"""Work on a server that is ready, in a thread of its own: when it is done, the attempt ends as it was wanted to.

The engine stays up for as long as the task likes. The loop tells it by `Served.cancel` that the engine has failed or is
to stop; what the task then raises is no error any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nexus_orch.errors import NexusError
from nexus_orch.launch.server.server import Server
from nexus_orch.types import Command, Plan, ProcessKey


@dataclass(frozen=True)
class Served:
    """A server that is ready, for a task that works with it."""

    server: Server
    plan: Plan
    command: Command
    log: Path
    gpus: tuple[int, ...]
    """The cards of the run by NVML's index."""
    family: Callable[[], Sequence[ProcessKey]]
    """The engine's processes."""
    measured: Mapping[str, float]
    """What the engine has told of itself, by name (kv_cache_tokens ...)."""
    say: Callable[[str], None]
    """Tell the user a sentence."""
    cancel: threading.Event = field(default_factory=threading.Event)
    """Set when the engine has failed or is to stop: whatever the task does then is in vain."""


ServedTask = Callable[[Served], None]


@dataclass(frozen=True)
class TaskSaid:
    """A sentence of the task for the user."""

    text: str


@dataclass(frozen=True)
class TaskEnded:
    """The task is done, or raised `error`."""

    error: Exception | None = None


TaskEvent = TaskSaid | TaskEnded


def start_task(task: ServedTask, served: Served, emit: Callable[[TaskEvent], None]) -> threading.Thread:
    """Begin the task; its end comes as an event. What it raises once it was cancelled is not told."""

    def work() -> None:
        error: Exception | None = None
        try:
            task(served)
        except Exception as raised:  # noqa: BLE001 - the loop's thread raises it again
            error = raised if isinstance(raised, NexusError) or not served.cancel.is_set() else None
        emit(TaskEnded(error))

    thread = threading.Thread(target=work, name="nexus-task", daemon=True)
    thread.start()
    return thread
