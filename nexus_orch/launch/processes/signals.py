"""Ctrl-C, `kill` and a closed terminal become events for the loop instead of exceptions in random places."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType

from nexus_orch.errors import ExitCode


@dataclass(frozen=True)
class StopRequested:
    """Somebody wants the run to end. `count` is 1 for the first request; from the second on it is a wish to hurry."""

    time: float
    reason: str
    exit_code: ExitCode
    count: int = 1


_REASONS = {
    "SIGINT": ("interrupted with Ctrl-C", ExitCode.INTERRUPTED),
    "SIGQUIT": ("interrupted with Ctrl-\\", ExitCode.INTERRUPTED),
    "SIGBREAK": ("interrupted with Ctrl-Break", ExitCode.INTERRUPTED),
    "SIGTERM": ("ended by SIGTERM", ExitCode.ENVIRONMENT),
    "SIGHUP": ("the terminal was closed", ExitCode.ENVIRONMENT),
}
"""Signals by their names, because not every system has each of them."""
AT_ONCE = frozenset({"SIGQUIT"})
"""Signals of somebody who does not want to wait: the ladder is hurried from the first one on."""


class StopSignals:
    """A context in which these signals call `emit` (in a thread of its own) and do nothing else.

    From the second one on, with SIGQUIT from the first, `hurry` is set, which `stop_engine` takes as "go on to the next
    rung". Outside the main thread, where Python allows no handlers, the context does nothing. SIGHUP stays ignored
    where it is (nohup).
    """

    def __init__(self, emit: Callable[[StopRequested], None]) -> None:
        self.hurry = threading.Event()
        self._emit = emit
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        # A handler runs between any two bytecodes of the main thread, which may hold the lock of the loop's queue.
        # SimpleQueue.put is the one that may be called there; a thread passes the events on.
        self._caught: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, name="nexus-signals", daemon=True)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._thread.start()
        for name in _REASONS:
            number = getattr(signal, name, None)
            if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                continue
            previous = signal.signal(number, self._catch)
            self._previous[number] = signal.SIG_DFL if previous is None else previous
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
        if self._thread.is_alive():
            self._caught.put(None)
            self._thread.join()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught.put(signal.Signals(number).name)

    def _pass_on(self) -> None:
        count = 0
        while (name := self._caught.get()) is not None:
            count += 1
            if count > 1 or name in AT_ONCE:
                self.hurry.set()
            reason, exit_code = _REASONS[name]
            self._emit(StopRequested(time.time(), reason, exit_code, count))
