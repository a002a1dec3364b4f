"""A command becomes a running engine: its own session, its output pumped, its end and its descendants watched."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from nexus_orch.contracts import EngineStart
from nexus_orch.errors import LaunchError, Problem
from nexus_orch.launch.processes.family import MARK_VARIABLE, ProcessRecord, find_descendants
from nexus_orch.launch.processes.left import LeftProcesses
from nexus_orch.launch.processes.listening import listens
from nexus_orch.launch.processes.vital import VitalWatch
from nexus_orch.types import MIB, Command, Exited, ProcessKey, Started, Vanished

FAMILY_SECONDS = 1.0
"""How often descendants are looked for while the engine boots; later, five times less often."""
BOOT_SECONDS = 120.0

DRAIN_SECONDS = 2.0
"""How long `Exited` waits for the last output, which a surviving child may hold back for ever."""

PIPE_BYTES = MIB
"""Linux's default limit for an unprivileged pipe (/proc/sys/fs/pipe-max-size)."""


if sys.platform == "win32":
    CREATION_FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    CREATION_FLAGS = 0


class ChildEngine(LeftProcesses):
    """An engine that is a child of this process (`RunningEngine`)."""

    def __init__(self, child: subprocess.Popen[bytes], record: ProcessRecord, start: EngineStart) -> None:
        super().__init__(record)
        self._child = child
        self._start = start
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._told = threading.Event()
        if child.stdout is None:
            raise RuntimeError("a child that was started with a pipe has none")
        start.emit(Started(time.time(), start.attempt, child.pid, start.command.argv))
        self.output = start.pump(child.stdout)
        self._vital = VitalWatch(self._tell_vanished)
        self._vital.start()
        for run, name in ((self._wait_for_end, "nexus-engine"), (self._watch_family, "nexus-family")):
            threading.Thread(target=run, name=name, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._record.identity

    @property
    def record(self) -> ProcessRecord:
        """The processes, with the descendants seen last. Changes when the family does."""
        with self._lock:
            return self._record

    @property
    def returncode(self) -> int | None:
        """None while the main process lives; negative for a signal."""
        return self._child.returncode

    def family(self) -> tuple[ProcessKey, ...]:
        record = self.record
        return (record.key, *record.family)

    def look(self) -> None:
        """Look for descendants now, and forget those that have ended (compilers come and go)."""
        living = find_descendants(self.family())
        with self._lock:
            family = tuple(key for key in living if key != self._record.key)
            self._record = replace(self._record, family=family)
        self._vital.watch(family)

    def owns_port(self, port: int) -> bool:
        return listens([key.pid for key in self.family()], port)

    def wait(self, timeout_seconds: float | None = None) -> int | None:
        return self.returncode if self._told.wait(timeout_seconds) else None

    def _wait_for_end(self) -> None:
        returncode = self._child.wait()
        self._ended.set()
        self._vital.stop()
        self.output.wait(DRAIN_SECONDS)
        self._start.emit(Exited(time.time(), self._start.attempt, returncode))
        self._told.set()

    def _tell_vanished(self, key: ProcessKey, name: str) -> None:
        self._start.emit(Vanished(time.time(), self._start.attempt, key.pid, name))

    def _watch_family(self) -> None:
        started = time.monotonic()
        pause = 0.0
        while not self._ended.wait(pause):
            self.look()
            pause = FAMILY_SECONDS if time.monotonic() - started < BOOT_SECONDS else 5 * FAMILY_SECONDS


def start_child(start: EngineStart) -> ChildEngine:
    """Start the command in a session (on Windows: a process group) of its own, with nothing on its standard input.

    Raises LaunchError when the operating system cannot start the command.
    """
    mark = uuid.uuid4().hex
    child = _start_child(start.command, make_child_env(start.command, os.environ, mark))
    if child.stdout is not None:
        _enlarge_pipe(child.stdout.fileno())
    pgid = None if sys.platform == "win32" else child.pid
    return ChildEngine(child, ProcessRecord(child.pid, _read_create_time(child.pid), pgid, mark), start)


def make_child_env(command: Command, inherited: Mapping[str, str], mark: str) -> dict[str, str]:
    """The child's environment: what is inherited, the command's own, and the mark by which descendants are known.

    vLLM renames its processes with setproctitle, which overwrites the environment that the kernel shows for them
    unless SPT_NOENV is set (setproctitle 1.3, README); the mark would be lost.
    """
    env = {"SPT_NOENV": "1", **inherited, **command.env, MARK_VARIABLE: mark}
    if command.path:
        env["PATH"] = os.pathsep.join([*command.path, *filter(None, [env.get("PATH")])])
    return env


def _start_child(command: Command, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.argv,
            env=dict(env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=sys.platform != "win32",
            creationflags=CREATION_FLAGS,
        )
    except (OSError, ValueError) as error:
        raise LaunchError(_describe_failure(command, error)) from error


def _read_create_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:  # it has already ended (macOS tells nothing of a zombie); it was created just now
        return time.time()


def _describe_failure(command: Command, error: OSError | ValueError) -> Problem:
    program = command.argv[0] if command.argv else ""
    message, remedy = f"cannot start {program}: {error}", "run the command by hand to see what is wrong with it"
    if command.cwd is not None and not Path(command.cwd).is_dir():
        message = f"cannot start {program}: the folder {command.cwd} does not exist"
        remedy = "create the folder, or start from another one"
    elif isinstance(error, FileNotFoundError) and Path(program).exists():
        message = f"cannot start {program}: the interpreter that its first line names does not exist"
        remedy = "the environment was moved or broken; install it again (nexus engine install)"
    elif isinstance(error, FileNotFoundError):
        message = f"cannot start {program}: there is no such program"
        remedy = "install an engine (nexus engine install), or name its interpreter with engine.python"
    elif isinstance(error, PermissionError):
        message = f"cannot start {program}: it is not an executable file"
        remedy = f"make it executable (chmod +x {program}), or name another interpreter with engine.python"
    elif isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        message = f"cannot start {program}: it is not a program for this machine"
        remedy = "reinstall the engine on this machine (nexus engine install)"
    elif isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN):
        message = f"cannot start {program}: the operating system allows no further process ({error.strerror})"
        remedy = "free memory, or raise the limit of processes (ulimit -u)"
        return Problem(message, remedy=remedy, cause="host_oom")
    return Problem(message, remedy=remedy, cause="unknown")


def _enlarge_pipe(descriptor: int) -> None:
    """A larger pipe lets the child go on while the reader waits for its turn."""
    if sys.platform != "linux":
        return
    import fcntl  # noqa: PLC0415 - Linux only

    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:  # the user's pages for pipes are spent; the default of 64 KiB works too
        return
