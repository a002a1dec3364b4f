"""The folder of a sweep: what is searched, written once, and what happened, one JSON line for each outcome.

The search is a pure function of both, so whoever reads them knows what to do next: after a kill, on another machine, in
another process. Nothing that was measured is lost, and nothing is measured twice.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from nexus_orch import __version__
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.files import append_line, read_lines, tell_write_errors, write_atomic
from nexus_orch.record.codec import CodecError, decode, encode
from nexus_orch.sweep.types import Begun, Outcome, Task
from nexus_orch.types import ProcessKey

SCHEMA = 1
"""The version of both files; another one when a field changes its meaning or goes away."""
SWEEP_FILE = "sweep.json"
OUTCOMES_FILE = "outcomes.jsonl"


@dataclass(frozen=True)
class SweepRecord:
    """What is searched. `command` are the overrides of the command line, by which the same sweep is found again."""

    task: Task
    command: tuple[str, ...]
    project: str = ""
    started: float = 0.0
    nexus_version: str = __version__
    schema: int = SCHEMA


@dataclass(frozen=True)
class SweepEntry:
    """A line of the journal: an outcome with its details, or why the sweep was stopped.

    `worker` is the process that wrote it, whose run may have to be cleaned up after it; `detail` is the whole record of
    a measurement or a soak.
    """

    time: float
    outcome: Outcome | None = None
    run_id: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    worker: ProcessKey | None = None
    host: str = ""
    stopped: str = ""
    exit_code: int = 0
    is_finished: bool = False
    """The search has come to its end."""


@dataclass(frozen=True)
class SweepJournal:
    """The files of one sweep."""

    folder: Path

    @property
    def outcomes_file(self) -> Path:
        return self.folder / OUTCOMES_FILE

    @property
    def is_there(self) -> bool:
        """Whether this folder belongs to a sweep of ours."""
        return (self.folder / SWEEP_FILE).is_file()

    def create(self, record: SweepRecord) -> None:
        """Write down what is searched. Raises InterruptedByEnvironment when the disk takes no more."""
        path = self.folder / SWEEP_FILE
        with tell_write_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(encode(record)) + "\n")

    def read(self) -> SweepRecord:
        """What is searched. Raises ConfigError when it cannot be read, or another version wrote it."""
        path = self.folder / SWEEP_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            schema = data["schema"]
            if schema != SCHEMA:
                message = f"this sweep has schema {schema}, and this nexus_orch reads schema {SCHEMA}"
                raise ConfigError(Problem(message, "sweep.resume", str(self.folder), remedy="sweep.resume=never"))
            return decode(SweepRecord, data)
        except OSError as error:
            told = f"the sweep cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, CodecError):
            told = f"{SWEEP_FILE} is not what nexus_orch wrote"
        raise ConfigError(Problem(told, "sweep.resume", str(self.folder), remedy="sweep.resume=never"))

    def append(self, outcome: Outcome | None = None, **more: Any) -> None:
        """Add a line and wait until the disk has it. Raises InterruptedByEnvironment when it takes no more."""
        entry = SweepEntry(time=time.time(), outcome=outcome, **more)
        data = {name: value for name, value in encode(entry).items() if value not in (None, "", {}, 0, False)}
        with tell_write_errors(self.outcomes_file):
            append_line(self.outcomes_file, data)

    def append_begun(self, begun: Begun) -> None:
        """Write down that this process begins a launch."""
        this = psutil.Process()
        self.append(begun, worker=ProcessKey(os.getpid(), this.create_time()), host=platform.node())

    def entries(self) -> tuple[SweepEntry, ...]:
        """All lines that can be read; one that a kill has torn is left out."""
        return read_lines(self.outcomes_file, _parse_entry).items

    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(entry.outcome for entry in self.entries() if entry.outcome is not None)


def _parse_entry(data: Any) -> SweepEntry:
    """Raises ValueError (CodecError) for what is no line of a journal."""
    return decode(SweepEntry, data)
