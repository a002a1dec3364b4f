"""The journal: one JSON object on each line, only ever appended, readable after a kill -9 at any byte."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.record.atomic import ends_with_newline, make_write_error
from nexus_orch.record.codec import decode_tagged, encode_tagged, kind_of
from nexus_orch.record.events import ENTRY_TYPES, SAMPLE_TYPES, Entry

_KNOWN_KINDS = {kind_of(entry_type) for entry_type in ENTRY_TYPES}
_SAMPLE_PREFIXES = tuple(f'{{"kind": "{kind_of(sample_type)}"'.encode() for sample_type in SAMPLE_TYPES)


class JournalWriter:
    """Appends entries. A run has one writer at a time: its supervisor, or who cleans up after the supervisor died."""

    def __init__(self, path: Path) -> None:
        """Raises InterruptedByEnvironment when the journal cannot be opened."""
        self._path = path
        try:
            # Unbuffered: what has been written is in the kernel's hands and outlives this process.
            self._file = path.open("ab", buffering=0)
            self._torn = not ends_with_newline(path)
        except OSError as error:
            raise make_write_error(path, error) from None

    def append(self, entry: Entry) -> None:
        """Write one entry. Raises InterruptedByEnvironment when the disk takes no more."""
        line = make_line(entry)
        try:
            self._write(b"\n" + line if self._torn else line)
        except OSError as error:
            raise make_write_error(self._path, error) from None

    def close(self) -> None:
        """Wait until the disk has everything, then close; a disk that fails now loses at most the last lines."""
        try:
            with self._file:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise make_write_error(self._path, error) from None

    def _write(self, data: bytes) -> None:
        """All of it, or the next line starts with a line end so that only this one is damaged."""
        self._torn = True
        while data:
            data = data[self._file.write(data) :]
        self._torn = False


@dataclass(frozen=True)
class Journal:
    """What a journal tells. `notes` say what could not be read, in words for the user."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def make_line(entry: Entry) -> bytes:
    """One line of the journal with its line end. ASCII only, so that no character can be torn."""
    return json.dumps(encode_tagged(entry)).encode("ascii") + b"\n"


def read_journal(path: Path, *, samples: bool = True) -> Journal:
    """Read what is there; a missing file is an empty journal. Without `samples`, those lines are not even parsed.

    Raises OSError when the file exists but cannot be read.
    """
    try:
        return parse_journal(path.read_bytes(), samples=samples)
    except FileNotFoundError:
        return Journal((), ("there is no journal",))


def parse_journal(data: bytes, *, samples: bool = True) -> Journal:
    """The entries of a journal. A torn or damaged line is left out and noted, never an error."""
    entries: list[Entry] = []
    damaged: list[int] = []
    unknown: set[str] = set()
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line or (not samples and line.startswith(_SAMPLE_PREFIXES)):
            continue
        try:
            item = json.loads(line)
            kind = item.get("kind") if isinstance(item, dict) else None
            if isinstance(kind, str) and kind not in _KNOWN_KINDS:
                unknown.add(kind)
            else:
                entries.append(decode_tagged(ENTRY_TYPES, item))
        except ValueError:  # not UTF-8, not JSON, or a CodecError
            damaged.append(number)
    return Journal(tuple(entries), tuple(_make_notes(damaged, unknown, last=len(lines))))


def _make_notes(damaged: list[int], unknown: set[str], last: int) -> Iterator[str]:
    """`last` is the number of the line that has no line end: the one that a kill tears."""
    if damaged and damaged[-1] == last:
        yield "the last line is torn"
        damaged = damaged[:-1]
    if damaged:
        yield f"damaged lines were left out: {len(damaged)}, the first is line {damaged[0]}"
    for kind in sorted(unknown):
        yield f"entries of unknown kind '{kind}' were left out"
