"""`nexus-run --detach`: the same run under a supervisor of its own, which the end of the terminal does not touch.

This process starts it, waits until the run has a record (or was refused), says how to go on, and ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from nexus_orch import paths
from nexus_orch.commands.known_runs import read_known_run
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.record.find import find_runs
from nexus_orch.record.run_record import RunRecord

DETACH_OPTION = "--detach"
POLL_SECONDS = 0.1


def split_detach(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Take `--detach` out of a command line."""
    return DETACH_OPTION in arguments, [word for word in arguments if word != DETACH_OPTION]


def run_detached(arguments: Sequence[str]) -> int:
    """Start `nexus-run` with these arguments and leave it; its exit code when it ended before the run had a record.

    Raises ConfigError on Windows.
    """
    if sys.platform == "win32":
        raise ConfigError(Problem("a run cannot leave its window on Windows", DETACH_OPTION, remedy="use WSL"))
    known = frozenset(find_runs(paths.runs_dir()))
    # Until there is a record, what the child says is said here: mistakes, the download of a model. Afterwards the
    # record tells everything, and nobody reads the child's output; a file without a name goes with the child.
    with tempfile.TemporaryFile() as said:
        child = _start(arguments, said)
        try:
            return _follow(child, known, said)
        except KeyboardInterrupt:
            child.terminate()
            raise


def _start(arguments: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    program = "import sys; from nexus_orch.cli import main_run; sys.exit(main_run())"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )


def _follow(child: subprocess.Popen[bytes], known: frozenset[Path], said: IO[bytes]) -> int:
    """Pass on what the child says until its run has a record, or it ends without one."""
    told = 0
    while True:
        has_ended = child.poll() is not None
        record = _find_record(child.pid, known)
        # By a positioned read: the child writes at the same place of the same open file.
        news = os.pread(said.fileno(), 1 << 20, told)
        told += len(news)
        sys.stderr.write(news.decode(errors="replace"))
        sys.stderr.flush()
        if record is not None and not record.is_over:
            sys.stdout.write(_describe(record))
            return ExitCode.GOOD
        if has_ended:
            return child.returncode
        time.sleep(POLL_SECONDS)


def _find_record(pid: int, known: frozenset[Path]) -> RunRecord | None:
    """The run whose supervisor is this process, once it has written down that it is."""
    for path in find_runs(paths.runs_dir()):
        record = None if path in known else read_known_run(path)
        if record is not None and record.supervisor is not None and record.supervisor.pid == pid:
            return record
    return None


def _describe(record: RunRecord) -> str:
    return (
        f"{record.id} runs on without this terminal\n"
        "    see it:     nexus ps\n"
        f"    its log:    nexus logs {record.id} --follow\n"
        f"    its story:  nexus report {record.id}\n"
        f"    stop it:    nexus stop {record.id}\n"
    )
