"""The runs of this machine, as `ps`, `logs`, `stop` and `report` see them: from outside, without disturbing them."""

from __future__ import annotations

import sys
from pathlib import Path

from nexus_orch import paths
from nexus_orch.errors import ConfigError, NexusError, Problem
from nexus_orch.launch.processes.supervisor import is_supervised
from nexus_orch.record.find import find_runs
from nexus_orch.record.history import HistoryRow, history_path, read_history, remember_run
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import RunRecord


def read_known_run(path: Path) -> RunRecord:
    """A run by its folder. Raises ConfigError when it cannot be read."""
    try:
        return read_run(path, is_supervised)
    except OSError as error:
        raise ConfigError(Problem(f"cannot read the run: {error.strerror}", key=str(path))) from None


def read_ended() -> dict[str, HistoryRow]:
    """The runs whose end the history tells, by id, the newest first. Without a usable history: none, and a warning."""
    try:
        rows = read_history(history_path(), paths.runs_dir())
    except NexusError as error:
        sys.stderr.write(f"warning: {error}\n")
        return {}
    return {row.id: row for row in rows if row.state is not None}


def read_open_runs(ended: dict[str, HistoryRow]) -> tuple[RunRecord, ...]:
    """Every run that is on or was lost, the oldest first: the folders whose end is not known yet.

    One that has ended since is remembered, so that it is not read again the next time.
    """
    found = []
    for folder in find_runs(paths.runs_dir()):
        if folder.name in ended:
            continue
        record = read_known_run(folder)
        if record.exit_code is None:
            found.append(record)
        elif record.is_over:
            _remember(record)
    return tuple(found)


def _remember(record: RunRecord) -> None:
    try:
        remember_run(history_path(), paths.runs_dir(), record)
    except NexusError:  # the folder is the truth; the next command tries again
        return
