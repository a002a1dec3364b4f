"""A run as its folder tells it: read from the files alone, by any process, while the run is on or long after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path

from nexus_orch.record.journal import NO_JOURNAL, JournalReader, RunJournal
from nexus_orch.record.run_folder import RunFolder
from nexus_orch.record.run_record import RunRecord, including
from nexus_orch.record.samples import Latest, read_latest
from nexus_orch.types import ProcessKey

IsAlive = Callable[[ProcessKey, str], bool]
"""Whether this process of the machine of this name still runs; True when that cannot be known from here."""


def count_as_gone(process: ProcessKey, host: str) -> bool:
    """For who does not care whether a run without an end is still on: it counts as lost."""
    return False


def read_run(path: Path, is_alive: IsAlive = count_as_gone) -> RunRecord:
    """Read a run's folder; without latest.json the journal's samples stand in. Raises OSError when it is unreadable."""
    folder = RunFolder(path)
    latest = read_latest(folder.latest)
    empty = RunRecord(path.name, path)
    try:
        with folder.journal.open("rb") as file:
            journal = JournalReader(file, samples=latest is None)
            record = reduce(including, journal, empty)
            record = replace(record, notes=(*record.notes, *journal.notes))
    except FileNotFoundError:
        record = replace(empty, notes=(NO_JOURNAL,))
    return _complete(record, latest, is_alive)


def make_record(
    path: Path, journal: RunJournal, latest: Latest | None = None, is_alive: IsAlive = count_as_gone
) -> RunRecord:
    """The run that these entries tell of. `latest`, where it is there, is newer than the journal's samples."""
    return _complete(
        reduce(including, journal.entries, RunRecord(path.name, path, notes=journal.notes)), latest, is_alive
    )


def _complete(record: RunRecord, latest: Latest | None, is_alive: IsAlive) -> RunRecord:
    record = record if latest is None else replace(record, latest=latest)
    is_lost = record.supervisor is None or not is_alive(record.supervisor, record.host)
    return replace(record, state="lost", stopping=False) if record.exit_code is None and is_lost else record
