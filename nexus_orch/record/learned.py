"""What was measured on this machine: launches in `<home>/learned.jsonl`, the bus in `<home>/bus.jsonl`.

`NEXUS_LEARN=0` switches learning off: nothing is read and nothing is written.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from nexus_orch import paths
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.judge.learned.learning import LaunchMeasurement
from nexus_orch.record.store import append_record, read_records

SWITCH = "NEXUS_LEARN"


def learned_path() -> Path:
    """The measurements of this user: `<home>/learned.jsonl`."""
    return paths.home_dir() / "learned.jsonl"


def bus_path() -> Path:
    """What `nexus calibrate --bus` measured, each time one line: `<home>/bus.jsonl`."""
    return paths.home_dir() / "bus.jsonl"


def is_learning() -> bool:
    """Whether plans use what was measured. Raises ConfigError when NEXUS_LEARN is neither 0 nor 1."""
    value = os.environ.get(SWITCH, "1")
    if value not in ("0", "1", ""):
        raise ConfigError(Problem("learning is switched by 0 or 1", SWITCH, value, "environment", f"{SWITCH}=0"))
    return value != "0"


def read_measurements(path: Path) -> tuple[tuple[LaunchMeasurement, ...], tuple[str, ...]]:
    """All measurements in their order, and notes on what could not be read. A missing file holds none."""
    return read_records(path, LaunchMeasurement)


def append_measurement(path: Path, measurement: LaunchMeasurement) -> None:
    """Add a measurement, unless the newest of its case says the same but for the date: so the file does not grow with
    every run. Raises InterruptedByEnvironment."""
    known = [found for found in read_measurements(path)[0] if found.is_same_case(measurement)]
    if known and replace(known[-1], date=measurement.date) == measurement:
        return
    append_record(path, measurement)
