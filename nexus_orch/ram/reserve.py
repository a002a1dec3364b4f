"""Try out the RAM that a run will take: a child touches all of it and gives it back, so that a lack shows now.

It is a process of its own, because the kernel ends a process when memory runs out, and that must not be this one. It
ends with us, however we end: it waits for the end of its input.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from nexus_orch.errors import LaunchError, Problem

CHILD = Path(__file__).with_name("touch.py")
MOST_WORKERS = 4
"""Touching is bound by the kernel, which zeroes each page. On a loaded virtual machine with two processors it went at
1 to 1.5 GB/s with any number of workers; servers with many processors zero pages of several workers at once."""


class Reservation:
    """A trial that is on. `held_bytes` grows up to `wanted_bytes`; `lack` says what the system refused."""

    def __init__(self, wanted_bytes: int, child: subprocess.Popen[str]) -> None:
        self.wanted_bytes = wanted_bytes
        self.held_bytes = 0
        self.locked_bytes = 0
        self.swapped_bytes = 0
        self.lack = ""
        self.pid = child.pid
        self._child = child
        self._reader = threading.Thread(target=self._read, name="nexus-reserve", daemon=True)
        self._reader.start()

    @property
    def is_over(self) -> bool:
        return not self._reader.is_alive()

    def end(self) -> None:
        """End the child and give its memory back. May be called at any time, and twice."""
        with suppress(OSError):
            self._child.kill()
        self._child.wait()
        self._reader.join()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        """Take what the child says, up to its end."""
        is_told = False
        for line in self._child.stdout or ():
            word, _, rest = line.strip().partition(" ")
            if word == "touched":
                self.held_bytes = max(self.held_bytes, int(rest))
            elif word == "held":
                self.held_bytes, self.locked_bytes, self.swapped_bytes = map(int, rest.split())
                is_told = True
            elif word == "lack":
                self.lack, is_told = f"the operating system refused more: {rest}", True
        returncode = self._child.wait()
        if not is_told:
            self.lack = f"the trial was ended by the system (return code {returncode}), as it does when memory runs out"


def start_reservation(wanted_bytes: int, cpu_count: int) -> Reservation:
    """Begin to touch so many bytes in a child. Raises LaunchError when no process can be started."""
    argv = [sys.executable, "-S", "-E", str(CHILD), str(wanted_bytes), str(min(MOST_WORKERS, max(1, cpu_count)))]
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=os.name == "posix",  # Ctrl-C is for us; we end the child
        )
    except OSError as error:
        message = f"the operating system allows no further process ({error.strerror or error})"
        remedy = "free memory, or raise the limit of processes (ulimit -u)"
        raise LaunchError(Problem(message, remedy=remedy, cause="host_oom")) from error
    return Reservation(wanted_bytes, child)
