"""One installer at a time: a lock file held through the operating system.

The lock is the kernel's, not the existence of the file: when its holder dies, even by kill -9, the lock is free at
once, so that there is no stale lock to judge and no wrong guess about a process id in another container. The file says
who holds it, for people; it stays when the lock is released.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.2


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock while inside. Waits for another holder; `on_wait` is told once who that is ("process 123").

    Raises OSError where files cannot be locked.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only where something is installed or removed

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    holder = _read_holder(path)  # before the first try, because filelock 3 empties the file when it opens it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait(holder)
        lock.acquire(poll_interval=POLL_SECONDS)
    try:
        path.write_text(f"process {os.getpid()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"
