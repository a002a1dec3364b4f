"""The engine's log read from outside while it grows and is cut over, without ever standing in its way.

A file is open only while it is read: on Windows nobody could rename it else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 16
READ_BYTES = 1 << 20
HEAD_BYTES = 256


@dataclass(frozen=True)
class _Piece:
    """One log file for good, whatever its name is. An inode is not enough: a new file may get that of a deleted one."""

    device: int
    inode: int
    head: bytes
    """How the file begins, as far as it has been read."""


@dataclass
class LogFollower:
    """Reads what a log file has gained since the last time, across cut-overs of `path` to `path`.1.

    It starts at the beginning of the file that is there at the first call, or behind what `read_last` gave.
    """

    path: Path
    offset: int = 0
    gaps: int = 0
    """How often the log was cut over twice before its older piece had been read to the end."""
    _piece: _Piece | None = None

    def read_last(self, lines: int) -> bytes:
        """The last lines of what is there now, older piece included; `read_new` goes on behind them.

        The end may be an incomplete line: the log may be growing. Raises OSError.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return b""
        with file:
            newest, found = _read_tail(file, lines)
            self.offset = file.seek(0, os.SEEK_CUR)
            self._piece = _identify(file, min(self.offset, HEAD_BYTES))
        older = self.path.with_name(self.path.name + ".1")
        if found < lines and older.exists():
            with older.open("rb") as file:
                return _read_tail(file, lines - found)[0] + newest
        return newest

    def read_new(self) -> bytes:
        """The next new bytes, at most 1 MiB; nothing when there are none yet. Raises OSError when unreadable."""
        data = self._read(self.path)
        if data is None:
            data = self._read_older()
            if not data:
                self._piece, self.offset = None, 0
                data = self._read(self.path)
        return data or b""

    def _read_older(self) -> bytes | None:
        """The rest of the piece that was cut over since the last time."""
        older = self.path.with_name(self.path.name + ".1")
        data = self._read(older)
        if data is None:
            self.gaps += 1
            self._piece, self.offset = None, 0
            data = self._read(older)
        return data

    def _read(self, path: Path) -> bytes | None:
        """New bytes of this file, none when it is not there; None when it is another file than the one followed."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return b""
        with file:
            if self._piece is not None and self._piece != _identify(file, len(self._piece.head)):
                return None
            file.seek(self.offset)
            data = file.read(READ_BYTES)
            self.offset += len(data)
            self._piece = _identify(file, min(self.offset, HEAD_BYTES))
        return data


def _read_tail(file: BinaryIO, lines: int) -> tuple[bytes, int]:
    """The last lines, and how many there were; reads no more than needed and leaves the file at the end it has seen."""
    end = position = file.seek(0, os.SEEK_END)
    chunks: list[bytes] = []
    line_ends = 0
    while position > 0 and line_ends <= lines:
        size = min(CHUNK_BYTES, position)
        position = file.seek(position - size)
        chunks.append(file.read(size))
        line_ends += chunks[-1].count(b"\n")
    file.seek(end)
    found = b"".join(reversed(chunks)).split(b"\n")
    last = [found.pop()]  # what follows the last line end: nothing, or an incomplete line
    wanted = lines - (1 if last[0] else 0)
    kept = found[max(0, len(found) - wanted) :] if wanted > 0 else []
    return b"\n".join(kept + last) if lines > 0 else b"", len(kept) + (1 if last[0] else 0)


def _identify(file: BinaryIO, head_bytes: int) -> _Piece:
    status = os.fstat(file.fileno())
    file.seek(0)
    return _Piece(status.st_dev, status.st_ino, file.read(head_bytes))
