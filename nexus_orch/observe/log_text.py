"""The lines of a log that lies on disk, whatever wrote it: plain or gzip, UTF-8 or UTF-16, of any size.

Nothing but the present line is held in memory, and of that only as much as anybody reads.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.judge.log.lines import MAX_LINE_CHARACTERS

STANDARD_INPUT = "-"

_GZIP = b"\x1f\x8b"
_BINARIES = (b"\x7fELF", b"MZ", b"PK\x03\x04", b"\x89PNG", b"SQLite format", b"GGUF", b"%PDF")
_HEAD_BYTES = 4096
_DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error)


def read_log_lines(name: str) -> Iterator[str]:
    """The lines of a file, of a run folder's engine.log, or of standard input ("-"), without their ends.

    The states of a progress bar, which are parted by carriage returns, are lines of their own. Raises ConfigError for
    what cannot be read and for what is no text.
    """
    try:
        with _open(name) as stream:
            yield from _read_lines(stream)
    except _DAMAGE as error:
        raise _unreadable(name, f"it is damaged or cut short ({error})") from error
    except OSError as error:
        raise _unreadable(name, error.strerror or str(error)) from error


class _Unpacked(io.RawIOBase):
    """What can be unpacked of a gzip file: one that was cut or is damaged ends where that shows."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed
        self._is_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises the damage's error only when nothing came before it."""
        try:
            piece = self._packed.read1(len(buffer))
        except _DAMAGE:
            if not self._is_begun:
                raise
            piece = b""
        self._is_begun = self._is_begun or bool(piece)
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def _open(name: str) -> Iterator[IO[str]]:
    if name == STANDARD_INPUT:
        yield _decode(name, sys.stdin.buffer)
        return
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / "engine.log"
    with path.open("rb") as stream:
        yield _decode(name, stream)


def _decode(name: str, stream: IO[bytes]) -> IO[str]:
    buffered = _buffer(stream)
    if buffered.peek(len(_GZIP)).startswith(_GZIP):
        buffered = io.BufferedReader(_Unpacked(gzip.GzipFile(fileobj=buffered)))
    head = buffered.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    encoding = "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # PowerShell's `vllm serve ... > log`
        encoding = "utf-16"
    elif _is_binary(head):
        raise ConfigError(
            Problem(f"{name} is no text", value=name, remedy="name the file that holds the output of `vllm serve`")
        )
    return io.TextIOWrapper(buffered, encoding=encoding, errors="replace", newline=None)


def _is_binary(head: bytes) -> bool:
    """True for what is no text. Zeros alone do not tell: a file that was cut while it was written to begins with them,
    and then the head is nothing else, or text follows."""
    if b"\0" not in head:
        return False
    rest = head.replace(b"\0", b"")
    return any(byte < 32 and byte not in b"\t\n\r\x1b\b\f" for byte in rest) or head.startswith(_BINARIES)


def _buffer(stream: IO[bytes] | gzip.GzipFile) -> io.BufferedReader:
    """A buffered reader on any binary stream: it can look ahead, standard input or not."""
    return io.BufferedReader(cast("io.RawIOBase", stream))


def _read_lines(stream: IO[str]) -> Iterator[str]:
    is_rest = False
    while piece := stream.readline(MAX_LINE_CHARACTERS):
        ends = piece.endswith("\n")
        if not is_rest:
            yield piece.rstrip("\n")
        is_rest = not ends


def _unreadable(name: str, reason: str) -> ConfigError:
    return ConfigError(
        Problem(f"cannot read {name}: {reason}", remedy="nexus diagnose LOGFILE, or - for standard input")
    )
