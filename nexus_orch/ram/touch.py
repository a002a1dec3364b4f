"""The child that tries RAM out: `python touch.py BYTES WORKERS`. It touches so much memory, says how far it came, and
ends, which gives all of it back. It imports nothing of the project, so that it weighs nothing itself.

Words on its output, one to a line: `touched N` after each step, `lack REASON` when the system gives no more, and at the
end `held N LOCKED SWAPPED`. When its input is closed (its parent is gone) it ends at once, and its memory with it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STEP_BYTES = 64 << 20


class Trial:
    """The memory that was touched, and held, so far."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.touched = self.locked = 0
        self.lack = ""
        self._held: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def touch(self, start: int) -> None:
        """Take one step's memory and write to every page of it; does nothing once the system has refused."""
        length = min(STEP_BYTES, self.wanted - start)
        try:
            memory = None if self.lack else mmap.mmap(-1, length)
        except (OSError, MemoryError) as error:
            self.lack = str(getattr(error, "strerror", None) or error or "out of memory")
            return
        if memory is None:
            return
        locked = _write_to(memory, length)
        with self._lock:
            self._held.append(memory)
            self.touched += length
            self.locked += locked
            _say(f"touched {self.touched}")


def main(wanted: int, workers: int) -> int:
    """Touch so many bytes. 0 when they were all there, 1 when the system refused."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _be_first_to_die()
    trial = Trial(wanted)
    with ThreadPoolExecutor(workers) as pool:
        for step in [pool.submit(trial.touch, start) for start in range(0, wanted, STEP_BYTES)]:
            step.result()
    if trial.lack:
        _say(f"lack {trial.lack}")
        return 1
    _say(f"held {trial.touched} {trial.locked} {_read_swapped_bytes()}")
    return 0


def _write_to(memory: mmap.mmap, length: int) -> int:
    """Write to every page. The bytes that could be locked as well: locked memory cannot be swapped out, as pinned
    memory cannot; most users may lock only a few MiB (RLIMIT_MEMLOCK). Huge pages are not asked for: to make them, the
    kernel drops file cache although there is free memory (seen on Linux 6.18, transparent_hugepage/defrag=madvise)."""
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.c_void_p(ctypes.addressof(first))
    ctypes.memset(address, 1, length)
    if sys.platform == "win32":
        return 0
    return length if ctypes.CDLL(None).mlock(address, ctypes.c_size_t(length)) == 0 else 0


def _be_first_to_die() -> None:
    """When memory runs out, the kernel is to end this process and no other (Linux)."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return


def _end_with_parent() -> None:
    """The parent writes nothing: the input ends when the parent does, however it ends."""
    os.read(0, 1)
    os._exit(1)


def _read_swapped_bytes() -> int:
    """How much of this process was swapped out meanwhile (Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSwap:")), 0)


def _say(line: str) -> None:
    """One line, handed on at once."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    code = main(int(sys.argv[1]), int(sys.argv[2]))
    os._exit(code)  # without waiting for the thread that waits for the parent
