"""A child process of the installer: its output goes to the log and to the screen, and it never outlives a failure."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

KEPT_LINES = 200
_READ_BYTES = 65536
_LONGEST_LINE_BYTES = 1 << 20
_STOP_SECONDS = 5.0
_LINE_END = re.compile(rb"[\r\n]+")

# Of pip's variables only those about where packages come from may reach the child. The others (PIP_TARGET, PIP_PREFIX,
# PIP_USER, PIP_NO_DEPS, PIP_CONSTRAINT ...) belong to the caller's own environment and would install somewhere else or
# something else. pip's configuration files stay in force.
_PIP_VARIABLES_KEPT = frozenset(
    {
        "PIP_CACHE_DIR",
        "PIP_CERT",
        "PIP_CLIENT_CERT",
        "PIP_CONFIG_FILE",
        "PIP_DEFAULT_TIMEOUT",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_INDEX_URL",
        "PIP_KEYRING_PROVIDER",
        "PIP_NO_CACHE_DIR",
        "PIP_NO_INDEX",
        "PIP_PROXY",
        "PIP_RESUME_RETRIES",
        "PIP_RETRIES",
        "PIP_TIMEOUT",
        "PIP_TRUSTED_HOST",
        "PIP_USE_DEPRECATED",
        "PIP_USE_FEATURE",
    }
)
_ENVIRONMENT_VARIABLES = frozenset({"VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "__PYVENV_LAUNCHER__"})


@dataclass(frozen=True)
class ChildResult:
    returncode: int
    """Negative for a signal, as in `subprocess`."""
    lines: tuple[str, ...]
    """The end of the output, at most `KEPT_LINES` lines."""


def make_child_env(base: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The environment of a child that must see nothing of the environment that nexus_orch itself runs in.

    Temporary files go to `temporary`: on the disk that was checked, and where the next call removes what a killed one
    left.
    """
    env = {name: value for name, value in base.items() if not _belongs_to_caller(name.upper())}
    folder = str(temporary)
    # PIP_USER=0 also overrides a `user = true` in pip's configuration, which an environment refuses.
    return env | {"PIP_USER": "0", "PIP_NO_INPUT": "1", "TMPDIR": folder, "TEMP": folder, "TMP": folder}


def _belongs_to_caller(name: str) -> bool:
    if name.startswith("PIP_"):
        return name not in _PIP_VARIABLES_KEPT
    return name.startswith("PYTHON") or name in _ENVIRONMENT_VARIABLES


def run_child(
    argv: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None],
    on_start: Callable[[int], None],
) -> ChildResult:
    """Run to the end. All output is appended to `log`; `on_start` is told the process id before any output is read.

    When anything interrupts the wait (Ctrl-C, a full disk) the child and its children are stopped first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    with (
        log.open("ab") as file,
        subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(env)
        ) as child,
    ):
        try:
            on_start(child.pid)
            for line in _read_lines(child, file):
                kept.append(line)
                on_line(line)
            return ChildResult(child.wait(), tuple(kept))
        except BaseException:
            stop_tree(child.pid)
            raise


def stop_tree(pid: int, created: float | None = None) -> bool:
    """Stop a process and its children: TERM, then KILL. False when it is gone, or when `created` (its creation time in
    seconds since the epoch) shows that another process has this id now."""
    try:
        process = psutil.Process(pid)
        # One second of tolerance: the creation time is computed from the boot time, which follows the clock.
        if created is not None and abs(process.create_time() - created) > 1.0:
            return False
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return False
    for member in family:
        _send(member.terminate)
    _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for member in alive:
        _send(member.kill)
    psutil.wait_procs(alive, timeout=_STOP_SECONDS)
    return True


def _send(signal: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended by itself in the meantime
        signal()


def _read_lines(child: subprocess.Popen[bytes], log: IO[bytes]) -> Iterator[str]:
    """The lines of the output, progress bars (which end in carriage returns) included; blank ones are passed over."""
    assert child.stdout is not None
    rest = b""
    while chunk := os.read(child.stdout.fileno(), _READ_BYTES):
        log.write(chunk)
        log.flush()
        *whole, rest = _LINE_END.split(rest + chunk)
        yield from (_decode(line) for line in whole if line.strip())
        rest = rest[-_LONGEST_LINE_BYTES:]
    if rest.strip():
        yield _decode(rest)


def _decode(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip()
