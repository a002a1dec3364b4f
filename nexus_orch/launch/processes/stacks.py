"""What the processes of an engine that hangs are doing, written down before they are killed.

The kernel tells the state of each (stopped, waiting for a disk) and what it waits in. Python's own stacks come from
py-spy, where the engine's environment or the PATH has it: it needs no help of a process that stands still.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nexus_orch.files import tell_write_errors, write_atomic
from nexus_orch.launch.processes.family import GONE, find_process
from nexus_orch.types import ProcessKey

DUMP_SECONDS = 10.0


def write_stacks(keys: Sequence[ProcessKey], path: Path, python: str) -> str:
    """Write what is known of these processes to a file, and give one sentence about them. `python` is the engine's
    interpreter. Raises InterruptedByEnvironment when the disk takes no more."""
    spy = shutil.which("py-spy", path=os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")]))
    told, text = [], []
    for key in keys:
        state = _describe(key)
        if state is None:
            continue
        told.append(state)
        text.append(f"== {state}\n{'' if spy is None else ''.join(_dump(spy, key.pid))}")
    with tell_write_errors(path):
        write_atomic(path, "\n".join(text))
    return "; ".join(told)


def _describe(key: ProcessKey) -> str | None:
    """One process in one line; None when it is gone."""
    process = find_process(key)
    if process is None:
        return None
    with suppress(*GONE):
        waits = _read_wait_channel(key.pid)
        return f"{process.name()} ({key.pid}) is {process.status()}{f' in {waits}' if waits else ''}"
    return None


def _read_wait_channel(pid: int) -> str:
    """The kernel function in which it waits, "" where Linux does not tell."""
    with suppress(OSError):
        channel = Path(f"/proc/{pid}/wchan").read_text(encoding="ascii", errors="replace").strip("\0\n ")
        return "" if channel in ("", "0") else channel
    return ""


def _dump(spy: str, pid: int) -> Iterator[str]:
    argv = [spy, "dump", "--pid", str(pid)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=DUMP_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield f"py-spy did not answer: {error}\n"
        return
    yield done.stdout or done.stderr
