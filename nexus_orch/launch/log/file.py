"""engine.log: the engine's output as it came, in at most two pieces, with a mark where bytes are missing."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from nexus_orch.files import open_to_append

RETRY_SECONDS = 5.0
"""How long a file that failed is left alone before it is tried again."""


class LogFile:
    """Writes raw bytes to `path` and cuts it over to `path`.1 at `limit_bytes`; an older `path`.1 is replaced.

    It never raises for a full or broken disk: what cannot be written is counted, told once to `on_failure`, and marked
    in the file when writing works again. Not for use by several threads.
    """

    def __init__(self, path: Path, limit_bytes: int, on_failure: Callable[[str], None]) -> None:
        self.written_bytes = 0
        """Bytes of the engine's output that are in the file or its older piece, marks not counted."""
        self.dropped_bytes = 0
        """Bytes of the engine's output that are not."""
        self._path = path
        self._limit_bytes = limit_bytes
        self._on_failure = on_failure
        self._file: BinaryIO | None = None
        self._size_bytes = 0
        self._unmarked_bytes = 0
        self._told = False
        self._retry_at = 0.0

    def write(self, data: bytes | bytearray) -> None:
        """Append the bytes, or count them as dropped."""
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                file = self._open(wanted_bytes=len(view) - done)
                if file is None:
                    break
                count = file.write(view[done : done + self._limit_bytes - self._size_bytes])
                self._size_bytes += count
                done += count
        except OSError as error:
            self._fail(error)
        self.written_bytes += done
        self.drop(len(view) - done)

    def drop(self, count: int) -> None:
        """Count bytes that never reached this file; the next write is preceded by a mark."""
        self.dropped_bytes += count
        self._unmarked_bytes += count

    def close(self) -> None:
        """Write a mark that is still due, and close."""
        try:
            if self._unmarked_bytes:
                self._open(wanted_bytes=0)
        except OSError as error:
            self._fail(error)
        self._close_file()

    def _open(self, wanted_bytes: int) -> BinaryIO | None:
        """The file with room for at least one byte and all marks written; None while it rests after a failure."""
        if self._file is None:
            if time.monotonic() < self._retry_at:
                return None
            self._file = open_to_append(self._path)
            self._size_bytes = self._file.tell()
        if self._unmarked_bytes:
            mark = f"\n[nexus_orch: {self._unmarked_bytes} bytes of output lost]\n"
            self._size_bytes += self._file.write(mark.encode())
            self._unmarked_bytes = 0
        if self._size_bytes and self._size_bytes + wanted_bytes > self._limit_bytes:
            self._close_file()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = open_to_append(self._path)
            self._size_bytes = 0
        return self._file

    def _fail(self, error: OSError) -> None:
        self._close_file()
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._told:
            self._told = True
            reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            self._on_failure(f"{self._path.name} cannot be written ({reason}); the engine goes on without it")

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:  # a last flush that failed: its bytes were counted when they were written
                return
