"""Files that are there whole or not at all, and errors of the disk told to the user."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from nexus_orch.errors import InterruptedByEnvironment, Problem

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_atomic(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` by `text` in one step: a reader, or a kill -9, sees the old content or the new one.

    `durable` also survives a power cut, for the price of waiting for the disk. Raises OSError.
    """
    data = text.encode("utf-8")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_folder(path.parent)


def write_result(path: Path, text: str) -> None:
    """Write a file that the user asked for. Raises InterruptedByEnvironment when it cannot be written."""
    try:
        write_atomic(path, text)
    except OSError as error:
        raise make_write_error(path, error) from None


def make_write_error(path: Path, error: OSError) -> InterruptedByEnvironment:
    """What a failed write means for the user."""
    if error.errno in _FULL:
        message, remedy = "the disk is full", "free some space, or set NEXUS_HOME to a folder on another disk"
    elif error.errno in _FORBIDDEN:
        message, remedy = "no permission to write here", "make it writable, or set NEXUS_HOME to a folder of your own"
    else:
        message, remedy = f"writing failed: {error.strerror or error}", "set NEXUS_HOME to a folder that can be written"
    return InterruptedByEnvironment(Problem(message, key=str(path), remedy=remedy))


def ends_with_newline(path: Path) -> bool:
    """Whether the last line of a file is whole; an empty file has none that could be torn. Raises OSError."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open folders and keeps renames by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
