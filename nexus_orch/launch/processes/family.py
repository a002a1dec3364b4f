"""Which processes belong to an engine: found by what was recorded at its start and seen since, never by name.

vLLM starts more processes (EngineCore, workers, compilers). They can outlive the API server, be adopted by init and
change their process group, so one test is not enough. A process belongs to an engine when it is

- the recorded process or one that was seen as its descendant (same pid *and* same start time), or
- a descendant of such a process now, or
- in the engine's process group or session, while the process that leads them is the recorded one, or
- carries the engine's mark: an environment variable with a value of its own, which every descendant inherits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from nexus_orch.contracts import EngineRecord, LeftProcess
from nexus_orch.types import ProcessKey

GONE = (psutil.Error, OSError)
"""What psutil and the kernel raise for a process that ended meanwhile or may not be looked at."""

MARK_VARIABLE = "NEXUS_ENGINE_MARK"

CREATE_TIME_TOLERANCE_SECONDS = 2.0
"""Start times are told as boot time plus ticks; the kernel's boot time moves by up to a second with the clock."""


def key_of(process: psutil.Process) -> ProcessKey:
    """The process for good. Raises psutil.Error when it has ended."""
    return ProcessKey(process.pid, process.create_time())


@dataclass(frozen=True)
class ProcessRecord:
    """What must be written down of an engine's processes, so that another process can find and stop all of them.

    `pgid` is their process group and session (None on Windows), `mark` the value of `MARK_VARIABLE` in their
    environment and `family` the living descendants seen last.
    """

    pid: int
    create_time: float
    pgid: int | None = None
    mark: str | None = None
    family: tuple[ProcessKey, ...] = ()

    @property
    def key(self) -> ProcessKey:
        return ProcessKey(self.pid, self.create_time)

    @property
    def identity(self) -> dict[str, Any]:
        """What of it never changes, as plain JSON."""
        return {"pid": self.pid, "create_time": self.create_time, "pgid": self.pgid, "mark": self.mark}


def read_record(record: EngineRecord) -> ProcessRecord | None:
    """The processes of a local engine, as they were written down; None when the record is none of a local engine."""
    main = record.family[0] if record.family else None
    seen = {} if main is None else {"pid": main.pid, "create_time": main.create_time}
    known: dict[str, Any] = {**seen, **record.identity}
    try:
        pgid = None if known.get("pgid") is None else int(known["pgid"])
        return ProcessRecord(int(known["pid"]), float(known["create_time"]), pgid, known.get("mark"), record.family)
    except (KeyError, TypeError, ValueError):
        return None


def find_process(key: ProcessKey) -> psutil.Process | None:
    """The living process that this key means; None when it is gone, a zombie, or its pid belongs to another one."""
    with suppress(*GONE):
        process = psutil.Process(key.pid)
        if abs(process.create_time() - key.create_time) <= CREATE_TIME_TOLERANCE_SECONDS and is_alive(process):
            return process
    return None


def is_alive(process: psutil.Process) -> bool:
    """True while it can do something or holds something. A zombie does not, unless some of its threads still end.

    Linux shows a process as a zombie as soon as its first thread has ended; memory, sockets and GPU contexts go with
    the last one.
    """
    with suppress(*GONE):
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    return False


def find_descendants(keys: Iterable[ProcessKey]) -> tuple[ProcessKey, ...]:
    """The living processes among `keys` and all their descendants now, without duplicates, in order of their pids."""
    found: dict[int, ProcessKey] = {}
    for key in keys:
        process = None if key.pid in found else find_process(key)
        if process is None:
            continue
        found[key.pid] = key
        with suppress(*GONE):
            for child in process.children(recursive=True):
                with suppress(*GONE):
                    found.setdefault(child.pid, key_of(child))
    return tuple(found[pid] for pid in sorted(found))


def find_family(record: ProcessRecord) -> dict[int, psutil.Process]:
    """Every living process of this engine by its pid. Reads the whole process table: some 10 to 100 ms."""
    keys = (record.key, *record.family)
    members = _by_pid(find_process(key) for key in keys)
    leads_group = record.pid in members
    for process in psutil.process_iter():
        if process.pid not in members and (_is_marked(process, record) or (leads_group and _in_group(process, record))):
            members[process.pid] = process
    for parent in list(members.values()):
        with suppress(*GONE):
            for child in parent.children(recursive=True):
                members.setdefault(child.pid, child)
    members.pop(os.getpid(), None)
    return {pid: process for pid, process in members.items() if is_alive(process)}


def _by_pid(processes: Iterable[psutil.Process | None]) -> dict[int, psutil.Process]:
    return {process.pid: process for process in processes if process is not None}


def _is_marked(process: psutil.Process, record: ProcessRecord) -> bool:
    if record.mark is None or process.pid == os.getpid():
        return False
    with suppress(*GONE):
        return process.environ().get(MARK_VARIABLE) == record.mark
    return False


def _in_group(process: psutil.Process, record: ProcessRecord) -> bool:
    if sys.platform == "win32" or record.pgid is None or process.pid == os.getpid():
        return False
    try:
        return record.pgid in (os.getpgid(process.pid), os.getsid(process.pid))
    except OSError:  # it ended meanwhile, or belongs to another session that may not be asked about
        return False


def list_processes(record: ProcessRecord) -> tuple[LeftProcess, ...]:
    """What lives of an engine, for people."""
    found = []
    for _, process in sorted(find_family(record).items()):
        with suppress(*GONE):
            found.append(LeftProcess(process.pid, process.name(), process.memory_info().rss))
    return tuple(found)
