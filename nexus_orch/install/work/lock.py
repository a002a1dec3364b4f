"""One installer at a time: a lock file held through the operating system.

The lock is the kernel's (`flock`, on Windows `LockFile`), not the existence of the file: when its holder dies, even by
kill -9, the lock is free at once, so that there is no stale lock to judge and no wrong guess about a process id in
another container. The file says who holds it, for people; it stays when the lock is released.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.2
_LOCKED_BYTE = 1 << 20
"""Windows makes the locked bytes unreadable to others: lock one far behind the text."""


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock while inside. Waits for another holder; `on_wait` is told once who that is ("process 123")."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        told = False
        while not _try_lock(file):
            if not told:
                on_wait(_read_holder(path))
                told = True
            time.sleep(POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()}".encode())
        file.flush()
        try:
            yield
        finally:
            _unlock(file)


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def _try_lock(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - exists on Windows only

            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - exists on POSIX only

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # held; any other error, such as a disk without locks, is told
        return False
    return True


def _unlock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - exists on Windows only

        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        import fcntl  # noqa: PLC0415 - exists on POSIX only

        fcntl.flock(file, fcntl.LOCK_UN)
