"""What was measured on this machine, one JSON object on each line of `<home>/learned.jsonl`, only ever appended.

A line is written in one piece, so that any number of runs may end at the same time. A damaged line costs its own
measurement and is noted. `NEXUS_LEARN=0` switches learning off: nothing is read and nothing is written.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from nexus_orch import paths
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.judge.learning import Measurement
from nexus_orch.record.atomic import ends_with_newline, make_write_error
from nexus_orch.record.codec import CodecError, decode, encode

SWITCH = "NEXUS_LEARN"


def learned_path() -> Path:
    """The measurements of this user: `<home>/learned.jsonl`."""
    return paths.home_dir() / "learned.jsonl"


def is_learning() -> bool:
    """Whether plans use what was measured. Raises ConfigError when NEXUS_LEARN is neither 0 nor 1."""
    value = os.environ.get(SWITCH, "1")
    if value not in ("0", "1", ""):
        raise ConfigError(Problem("learning is switched by 0 or 1", SWITCH, value, "environment", f"{SWITCH}=0"))
    return value != "0"


def read_measurements(path: Path) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """All measurements in their order, and notes on what could not be read. A missing file holds none."""
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
                found.append(decode(Measurement, json.loads(line)))
            except (ValueError, CodecError):  # not UTF-8, not JSON, or something else
                damaged.append(number)
    notes = (f"{path}: {len(damaged)} damaged lines were left out, the first is line {damaged[0]}",) if damaged else ()
    return tuple(found), notes


def append_measurement(path: Path, measurement: Measurement) -> None:
    """Add a measurement, unless the newest of its case says the same but for the date: so the file does not grow with
    every run. Raises InterruptedByEnvironment."""
    known = [found for found in read_measurements(path)[0] if found.is_same_case(measurement)]
    if known and replace(known[-1], date=measurement.date) == measurement:
        return
    line = json.dumps(encode(measurement)).encode("ascii") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered and for appending: one write, at the end of the file, whoever else writes.
        with path.open("ab", buffering=0) as file:
            file.write(line if ends_with_newline(path) else b"\n" + line)
    except OSError as error:
        raise make_write_error(path, error) from None
