"""Files that are there whole or not at all, files of JSON lines that only grow, and errors of the disk in plain words.

What nexus_orch keeps for itself is readable by its user alone (`PRIVATE`): a run's folder holds prompts, paths and the
names of secrets. A file that the user asked for is made like any other of theirs (`SHARED`, less the umask).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Generic, TypeVar

from nexus_orch.errors import ConfigError, InterruptedByEnvironment, Problem

Item = TypeVar("Item")

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
SHARED = 0o666
PROGRAM = 0o777

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


# Whole files


def write_atomic(path: Path, text: str, *, durable: bool = True, mode: int = PRIVATE) -> None:
    """Replace `path` by `text` in one step: a reader, or a kill -9, sees the old content or the new one.

    `durable` also survives a power cut, for the price of waiting for the disk. The file gets the permissions `mode`,
    less the umask, whatever it had before. Raises OSError.
    """
    data = text.encode("utf-8")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
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


def write_result(path: Path, text: str, *, mode: int = SHARED) -> None:
    """Write a file that the user asked for, and its missing folders.

    Raises ConfigError when it cannot be written there, InterruptedByEnvironment when the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text, mode=mode)
    except OSError as error:
        message = f"cannot write {path}: {_reason_of(error)}"
        if error.errno in _FULL:
            raise InterruptedByEnvironment(Problem(message, remedy="free some space, or name another place")) from None
        raise ConfigError(Problem(message, remedy="name another place")) from None


# Files of JSON lines


class LineFile:
    """Appends values to a file of JSON lines, one on each line. The file has one such writer at a time.

    Each line is in the kernel's hands when `append` returns, so that it outlives this process. After a write that
    failed, or behind a line that a kill has torn, the next line starts with a line end: only the torn one is lost.
    """

    def __init__(self, path: Path, *, mode: int = PRIVATE) -> None:
        """A file that is not there yet is made with the permissions `mode`. Raises OSError."""
        self._file = open_to_append(path, mode=mode)
        self._torn = not _ends_with_newline(path)

    def append(self, value: object) -> None:
        """Write one line. Raises OSError when the disk takes no more."""
        line = make_line(value)
        data = b"\n" + line if self._torn else line
        self._torn = True
        while data:
            data = data[self._file.write(data) :]
        self._torn = False

    def close(self, *, durable: bool = True) -> None:
        """Close the file; `durable` waits until the disk has everything. Raises OSError."""
        with self._file:
            if durable:
                os.fsync(self._file.fileno())


def append_line(path: Path, value: object, *, mode: int = PRIVATE) -> None:
    """Add one line and wait until the disk has it; missing folders are made, as the umask says. Raises OSError.

    The line is written in one piece at the end of the file, so that any number of processes may do so at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    file = LineFile(path, mode=mode)
    try:
        file.append(value)
    finally:
        file.close()
    if is_new:
        _sync_folder(path.parent)


def open_to_append(path: Path, *, mode: int = PRIVATE) -> FileIO:
    """An unbuffered file that is written at its end; one that is not there yet is made. Raises OSError."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), "ab")


def make_line(value: object) -> bytes:
    """One line with its line end. ASCII only, so that no character can be torn."""
    return json.dumps(value).encode("ascii") + b"\n"


@dataclass(frozen=True)
class Lines(Generic[Item]):
    """What a file of JSON lines holds. `damaged` are the numbers, from 1 on, of lines that could not be read, without
    the last one when a kill tore it, which `is_torn` says."""

    items: tuple[Item, ...] = ()
    damaged: tuple[int, ...] = ()
    is_torn: bool = False


def read_lines(path: Path, parse: Callable[[Any], Item], without: tuple[bytes, ...] = ()) -> Lines[Item]:
    """The lines of a file, as `parse_lines` reads them; a missing file has none.

    Raises OSError when the file is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            return parse_lines(file, parse, without)
    except FileNotFoundError:
        return Lines()


def parse_lines(lines: Iterable[bytes], parse: Callable[[Any], Item], without: tuple[bytes, ...] = ()) -> Lines[Item]:
    """What `parse` makes of the JSON value on each line, all kept; see `LineReader`."""
    reader = LineReader(lines, parse, without)
    return Lines(tuple(reader), tuple(reader.damaged), reader.is_torn)


class LineReader(Generic[Item]):
    """Reads JSON lines one after the other, so that the size of a file costs no memory.

    `parse` makes an item of the JSON value on a line; it raises ValueError for a value that it cannot read. Lines that
    begin with one of `without` are passed over unread. A line that cannot be read is left out and counted, never an
    error: `damaged` and `is_torn` are as in `Lines`, and whole when the last line has been read.
    """

    def __init__(self, lines: Iterable[bytes], parse: Callable[[Any], Item], without: tuple[bytes, ...] = ()) -> None:
        """`lines` have their line ends, as a file opened for bytes gives them."""
        self._lines = lines
        self._parse = parse
        self._without = without
        self.damaged: list[int] = []
        self.is_torn = False

    def __iter__(self) -> Iterator[Item]:
        for number, line in enumerate(self._lines, start=1):
            if line == b"\n" or (self._without and line.startswith(self._without)):
                continue
            try:
                item = self._parse(json.loads(line))
            except (ValueError, RecursionError):  # not UTF-8, not JSON, nested without end, or refused by `parse`
                if line.endswith(b"\n"):
                    self.damaged.append(number)
                else:
                    self.is_torn = True  # only the last line has no line end
                continue
            yield item


# Errors


@contextmanager
def tell_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside into the InterruptedByEnvironment that tells it: `path` could not be written."""
    try:
        yield
    except OSError as error:
        raise make_write_error(path, error) from None


def make_write_error(path: Path, error: OSError) -> InterruptedByEnvironment:
    """What it means for the user that a file of nexus_orch's own could not be written."""
    message, remedy = _reason_of(error), "set NEXUS_HOME to a folder that can be written"
    if error.errno in _FULL:
        remedy = "free some space, or set NEXUS_HOME to a folder on another disk"
    elif error.errno in _FORBIDDEN:
        remedy = "make it writable, or set NEXUS_HOME to a folder of your own"
    else:
        message = f"writing failed: {message}"
    return InterruptedByEnvironment(Problem(message, key=str(path), remedy=remedy))


def _reason_of(error: OSError) -> str:
    if error.errno in _FULL:
        return "the disk is full"
    if error.errno in _FORBIDDEN:
        return "no permission to write here"
    return error.strerror or str(error)


def _ends_with_newline(path: Path) -> bool:
    """Whether the last line of a file is whole; an empty file has none that could be torn. Raises OSError."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable. Windows cannot open folders and keeps names by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
