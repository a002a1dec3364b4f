"""Records that are kept from run to run: one JSON object on each line of a file that is only ever appended.

A line is written in one piece, so that any number of runs may end at the same time. A damaged line costs its own record
and is noted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from nexus_orch.record.atomic import ends_with_newline, make_write_error
from nexus_orch.record.codec import CodecError, decode, encode

Record = TypeVar("Record")


def read_records(path: Path, kind: type[Record]) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """All records in their order, and notes on what could not be read. A missing file holds none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return (), ()
    except OSError as error:
        return (), (f"what was learned before cannot be read: {path}: {error.strerror}",)
    found, damaged = [], []
    for number, line in enumerate(lines, start=1):
        if line:
            try:
                found.append(decode(kind, json.loads(line)))
            except (ValueError, CodecError):  # not UTF-8, not JSON, or something else
                damaged.append(number)
    notes = (f"{path}: {len(damaged)} damaged lines were left out, the first is line {damaged[0]}",) if damaged else ()
    return tuple(found), notes


def append_record(path: Path, record: object) -> None:
    """Add a record. Raises InterruptedByEnvironment."""
    line = json.dumps(encode(record)).encode("ascii") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered and for appending: one write, at the end of the file, whoever else writes.
        with path.open("ab", buffering=0) as file:
            file.write(line if ends_with_newline(path) else b"\n" + line)
    except OSError as error:
        raise make_write_error(path, error) from None
