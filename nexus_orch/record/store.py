"""Records that are kept from run to run: one on each line of a file that is only ever appended."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypeVar

from nexus_orch.files import append_line, read_lines, tell_write_errors
from nexus_orch.record.codec import decode, encode

Record = TypeVar("Record")


def read_records(path: Path, kind: type[Record]) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """All records in their order, and notes on what could not be read. A missing file holds none."""
    try:
        lines = read_lines(path, partial(decode, kind))
    except OSError as error:
        return (), (f"what was learned before cannot be read: {path}: {error.strerror}",)
    if lines.is_torn:
        return lines.items, (f"{path}: the last line is torn and was left out",)
    if lines.damaged:
        note = f"{path}: {len(lines.damaged)} damaged lines were left out, the first is line {lines.damaged[0]}"
        return lines.items, (note,)
    return lines.items, ()


def append_record(path: Path, record: object) -> None:
    """Add a record. Raises InterruptedByEnvironment."""
    with tell_write_errors(path):
        append_line(path, encode(record))
