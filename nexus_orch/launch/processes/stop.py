"""The stop ladder: ask, insist, kill; for every process of an engine and for nothing else.

It needs only a `ProcessRecord`, so it works for the supervisor, for `nexus stop` in another terminal and for orphans.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from nexus_orch.contracts import Hurry, StopReport
from nexus_orch.errors import Problem
from nexus_orch.launch.processes.family import GONE, ProcessRecord, find_family, is_alive, key_of
from nexus_orch.types import ProcessKey

RUNGS = ("CTRL_BREAK_EVENT", "SIGKILL") if sys.platform == "win32" else ("SIGINT", "SIGTERM", "SIGKILL")
"""Windows knows no SIGTERM: what is called so there kills at once."""

POLL_SECONDS = 0.05
KILL_SECONDS = 10.0
"""How long the last rung waits at least: a process in the kernel (a driver call, a page fault) dies late."""


def stop_processes(
    record: ProcessRecord,
    *,
    stop_seconds: float,
    force: bool = False,
    hurry: Hurry | None = None,
    on_rung: Callable[[str], None] | None = None,
) -> StopReport:
    """Stop every process of the engine and say how. Waits `stop_seconds` on each rung, less when all are gone earlier.

    `force` leaves out the polite rungs and kills at once. Setting `hurry` ends the present rung at once; it is cleared,
    so that it can be set again for the next one. `on_rung` is told each rung's signal before it is sent.
    """
    started = time.monotonic()
    ladder = _Ladder(record, hurry or threading.Event())
    left = find_family(record)
    rung = None
    for rung in RUNGS[-1 if force else 0 :] if left else ():
        if on_rung is not None:
            on_rung(rung)
        seconds = max(stop_seconds, KILL_SECONDS) if rung == "SIGKILL" else stop_seconds
        left = ladder.climb(rung, left, time.monotonic() + seconds)
        if not left:
            break
    return StopReport(
        rung=rung,
        seconds=time.monotonic() - started,
        killed=tuple(key for key in ladder.killed if key.pid not in left),
        survivors=_keys_of(left),
        problems=describe_survivors(_keys_of(left)),
    )


def describe_survivors(survivors: Sequence[ProcessKey]) -> tuple[Problem, ...]:
    """What is left behind, as problems with a remedy; empty when everything is gone."""
    if not survivors:
        return ()
    pids = ", ".join(str(key.pid) for key in survivors)
    remedy = "end them as the user who owns them; when they hang in the driver only a restart of the machine helps"
    return (Problem(f"could not stop process {pids}", remedy=remedy, cause="orphan_holds_memory"),)


class _Ladder:
    def __init__(self, record: ProcessRecord, hurry: Hurry) -> None:
        self.killed: list[ProcessKey] = []
        self._record = record
        self._hurry = hurry

    def climb(self, rung: str, left: dict[int, psutil.Process], deadline: float) -> dict[int, psutil.Process]:
        """Signal each process once, those that appear later too, and give what is left when the time is over."""
        asked: set[int] = set()
        while left:
            new = {pid: process for pid, process in left.items() if pid not in asked}
            if rung == "SIGKILL":
                self.killed += _keys_of(new)
            for process in new.values():
                _send(process, rung)
            asked.update(new)
            left = _wait_for_end(left, deadline, self._hurry)
            if left:
                self._hurry.clear()
                return left
            left = find_family(self._record)  # it may have started more processes while it was being stopped
        return left


def _wait_for_end(processes: dict[int, psutil.Process], deadline: float, hurry: Hurry) -> dict[int, psutil.Process]:
    """Those that still live at the deadline, or when there is a hurry."""
    left = {pid: process for pid, process in processes.items() if is_alive(process)}
    while left and time.monotonic() < deadline and not hurry.wait(POLL_SECONDS):
        left = {pid: process for pid, process in left.items() if is_alive(process)}
    return left


def _send(process: psutil.Process, rung: str) -> None:
    """Send a signal, unless the pid belongs to another process by now (psutil compares the start times)."""
    with suppress(*GONE):
        if rung == "SIGKILL":
            process.kill()
        elif sys.platform == "win32":
            os.kill(process.pid, signal.CTRL_BREAK_EVENT)
        else:
            process.send_signal(signal.Signals[rung])


def _keys_of(processes: dict[int, psutil.Process]) -> tuple[ProcessKey, ...]:
    keys = []
    for process in processes.values():
        with suppress(*GONE):
            keys.append(key_of(process))
    return tuple(keys)
