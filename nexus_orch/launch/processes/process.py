"""A command becomes a running engine: its own session, its output pumped, its end and its descendants watched."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from nexus_orch.errors import LaunchError, Problem
from nexus_orch.launch.log.pump import LogPump
from nexus_orch.launch.processes.family import MARK_VARIABLE, EngineRecord, find_descendants, key_of
from nexus_orch.types import MIB, Command, Emit, Exited, ProcessKey, Started

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


class RunningEngine:
    """An engine that was started here. Emits `Started` at once and `Exited` once, after the output before its end."""

    def __init__(
        self,
        *,
        child: subprocess.Popen[bytes],
        command: Command,
        log: LogPump,
        record: EngineRecord,
        attempt: int,
        emit: Emit,
    ) -> None:
        self.command = command
        self.log = log
        self.attempt = attempt
        self.pid = child.pid
        self._child = child
        self._record = record
        self._emit = emit
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._told = threading.Event()
        emit(Started(time.time(), attempt, child.pid, command.argv))
        log.start()
        for run, name in ((self._wait_for_end, "nexus-engine"), (self._watch_family, "nexus-family")):
            threading.Thread(target=run, name=name, daemon=True).start()

    @property
    def record(self) -> EngineRecord:
        """What to write down, with the descendants seen last. Changes when the family does."""
        with self._lock:
            return self._record

    @property
    def create_time(self) -> float:
        return self._record.create_time

    @property
    def pgid(self) -> int | None:
        return self._record.pgid

    @property
    def returncode(self) -> int | None:
        """None while the main process lives; negative for a signal."""
        return self._child.returncode

    def family(self) -> tuple[ProcessKey, ...]:
        """The main process, and those of its descendants that lived when they were last looked for; cheap."""
        record = self.record
        return (record.key, *record.family)

    def find_new_descendants(self) -> None:
        """Look for descendants now, and forget those that have ended (compilers come and go)."""
        living = find_descendants(self.family())
        with self._lock:
            family = tuple(key for key in living if key != self._record.key)
            self._record = replace(self._record, family=family)

    def wait(self, timeout_seconds: float | None = None) -> int | None:
        """The return code once the main process has ended and `Exited` was emitted; None when it has not."""
        return self.returncode if self._told.wait(timeout_seconds) else None

    def _wait_for_end(self) -> None:
        returncode = self._child.wait()
        self._ended.set()
        self.log.wait(DRAIN_SECONDS)
        self._emit(Exited(time.time(), self.attempt, returncode))
        self._told.set()

    def _watch_family(self) -> None:
        started = time.monotonic()
        pause = 0.0
        while not self._ended.wait(pause):
            self.find_new_descendants()
            pause = FAMILY_SECONDS if time.monotonic() - started < BOOT_SECONDS else 5 * FAMILY_SECONDS


def start_engine(
    command: Command,
    *,
    attempt: int,
    emit: Emit,
    log_path: Path,
    run_id: str = "",
    log_bytes: int = 256 * MIB,
    important: Callable[[str], bool] | None = None,
    backlog: Callable[[], int] | None = None,
) -> RunningEngine:
    """Start the command in a session (on Windows: a process group) of its own, with nothing on its standard input.

    `emit` is called from several threads. `log_bytes`, `important` and `backlog` are those of `LogPump`. Raises
    LaunchError when the operating system cannot start the command.
    """
    mark = uuid.uuid4().hex
    child = _start_child(command, make_child_env(command, os.environ, mark))
    if child.stdout is None:
        raise RuntimeError("a child that was started with a pipe has none")
    _enlarge_pipe(child.stdout.fileno())
    record = EngineRecord(
        run_id=run_id,
        pid=child.pid,
        create_time=_read_create_time(child.pid),
        pgid=None if sys.platform == "win32" else child.pid,
        mark=mark,
        supervisor=key_of(psutil.Process()),
    )
    log = LogPump(
        child.stdout, log_path, attempt=attempt, emit=emit, limit_bytes=log_bytes, important=important, backlog=backlog
    )
    return RunningEngine(child=child, command=command, log=log, record=record, attempt=attempt, emit=emit)


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
