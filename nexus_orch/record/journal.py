"""The journal: one JSON object on each line, only ever appended, readable after a kill -9 at any byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.files import LineFile, LineReader, tell_write_errors
from nexus_orch.record.codec import decode_tagged, encode_tagged, kind_of
from nexus_orch.record.events import ENTRY_TYPES, SAMPLE_TYPES, Entry

_KNOWN_KINDS = {kind_of(entry_type) for entry_type in ENTRY_TYPES}
NO_JOURNAL = "there is no journal"
_SAMPLE_PREFIXES = tuple(f'{{"kind": "{kind_of(sample_type)}"'.encode() for sample_type in SAMPLE_TYPES)


class JournalWriter:
    """Appends entries. A run has one writer at a time: its supervisor, or who cleans up after the supervisor died."""

    def __init__(self, path: Path) -> None:
        """Raises InterruptedByEnvironment when the journal cannot be opened."""
        self._path = path
        with tell_write_errors(path):
            self._file = LineFile(path)

    def append(self, entry: Entry) -> None:
        """Write one entry. Raises InterruptedByEnvironment when the disk takes no more."""
        with tell_write_errors(self._path):
            self._file.append(encode_tagged(entry))

    def close(self) -> None:
        """Wait until the disk has everything, then close; a disk that fails now loses at most the last lines."""
        with tell_write_errors(self._path):
            self._file.close()


@dataclass(frozen=True)
class RunJournal:
    """What a journal tells. `notes` say what could not be read, in words for the user."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def read_journal(path: Path, *, samples: bool = True) -> RunJournal:
    """Read what is there; a missing file is an empty journal. Without `samples`, those lines are not even parsed.

    Raises OSError when the file exists but cannot be read.
    """
    try:
        with path.open("rb") as file:
            return parse_journal(file, samples=samples)
    except FileNotFoundError:
        return RunJournal((), (NO_JOURNAL,))


def parse_journal(lines: Iterable[bytes], *, samples: bool = True) -> RunJournal:
    """The entries of a journal, all kept."""
    reader = JournalReader(lines, samples=samples)
    return RunJournal(tuple(reader), reader.notes)


class JournalReader:
    """The entries of a journal, one after the other: none is kept, so that a journal of any size can be folded.

    A torn or damaged line is left out and noted, never an error; `notes` are whole when the last line has been read.
    """

    def __init__(self, lines: Iterable[bytes], *, samples: bool = True) -> None:
        """Without `samples` those lines are not even parsed."""
        self._unknown: set[str] = set()
        self._reader = LineReader(lines, self._parse, without=() if samples else _SAMPLE_PREFIXES)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for entry in self._reader if entry is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, in words for the user."""
        return tuple(self._make_notes())

    def _parse(self, item: Any) -> Entry | None:
        kind = item.get("kind") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind not in _KNOWN_KINDS:
            self._unknown.add(kind)
            return None
        entry: Entry = decode_tagged(ENTRY_TYPES, item)
        return entry

    def _make_notes(self) -> Iterator[str]:
        damaged = self._reader.damaged
        if self._reader.is_torn:
            yield "the last line is torn"
        if damaged:
            yield f"damaged lines were left out: {len(damaged)}, the first is line {damaged[0]}"
        for kind in sorted(self._unknown):
            yield f"entries of unknown kind '{kind}' were left out"
