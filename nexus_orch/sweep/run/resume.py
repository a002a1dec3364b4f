"""Going on with a sweep that was interrupted: which one, what it left open, and what it left behind."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nexus_orch import paths
from nexus_orch.compose.origins import COMMAND_LINE
from nexus_orch.errors import ConfigError, NexusError, Problem
from nexus_orch.launch.processes.family import find_process
from nexus_orch.launch.processes.supervisor import is_supervised
from nexus_orch.record.find import find_runs
from nexus_orch.record.read_run import read_run
from nexus_orch.session.left_over import EngineFinder
from nexus_orch.sweep.run.journal import SweepEntry, SweepJournal, SweepRecord
from nexus_orch.sweep.types import INTERRUPTED, Begun, Ended, LaunchEnded, Outcome, Soaked

NEVER = "never"
SECONDS_BEFORE = 5.0
"""A run's folder may be a little older than the line that tells of its launch: clocks and disks."""


def choose_folder(resume: str | None, command: Sequence[str], project: str, fresh: Path) -> Path:
    """Where the sweep is kept: in a `fresh` folder, or where an earlier one goes on (`sweep.resume`).

    Raises ConfigError for a folder that holds no sweep, one of another command, or one that another process works on.
    """
    if resume == NEVER:
        return fresh
    if resume is not None:
        return _check_folder(Path(resume), command, project)
    return _find_unfinished(fresh.parent, command, project) or fresh


def command_of(overrides: Sequence[str]) -> tuple[str, ...]:
    """What of a command line says which sweep it is: not where it is kept, how it is launched or what it may take."""
    return tuple(word for word in overrides if not word.lstrip("+~").startswith(("hydra.", "hydra/", "sweep.")))


def check_command(record: SweepRecord, folder: Path, command: Sequence[str], project: str) -> None:
    """Raises ConfigError when the sweep in a folder is another one than that of the command."""
    if record.command == tuple(command) and record.project == project:
        return
    told = " ".join((*record.command, *((f"--project {record.project}",) if record.project else ())))
    raise ConfigError(
        Problem("the sweep in that folder has another command", "sweep.resume", str(folder), None, f"it was: {told}")
    )


def _check_folder(folder: Path, command: Sequence[str], project: str) -> Path:
    folder = folder.expanduser().absolute()
    journal = SweepJournal(folder)
    if not journal.is_there:
        raise ConfigError(Problem("no sweep was kept there", "sweep.resume", str(folder), COMMAND_LINE))
    check_command(journal.read(), folder, command, project)
    if _is_at_work(journal.entries()):
        raise ConfigError(Problem("another process works on that sweep", "sweep.resume", str(folder), COMMAND_LINE))
    return folder


def _find_unfinished(sweeps: Path, command: Sequence[str], project: str) -> Path | None:
    """The last sweep of this command, when it did not come to its end and nobody works on it."""
    for folder in sorted(sweeps.iterdir(), reverse=True) if sweeps.is_dir() else ():
        journal = SweepJournal(folder)
        try:
            record = journal.read() if journal.is_there else None
        except ConfigError:
            continue  # of another version: it is not looked for, and refused only when it is named
        if record is None or list(record.command) != list(command) or record.project != project:
            continue
        entries = journal.entries()
        if any(entry.is_finished for entry in entries) or _is_at_work(entries):
            return None
        return folder
    return None


def _is_at_work(entries: Sequence[SweepEntry]) -> bool:
    """Whether the process that began the last launch is still there."""
    begun = next((entry for entry in reversed(entries) if isinstance(entry.outcome, Begun)), None)
    if begun is None or begun.worker is None or begun.host != platform.node():
        return False
    return find_process(begun.worker) is not None


def close_open_ends(journal: SweepJournal) -> None:
    """Write down the end of what was on when a sweep was cut off: it was no fault of its point."""
    for outcome in find_open_ends(journal.outcomes()):
        journal.append(outcome)


def find_open_ends(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    """The outcomes that are missing: of launches that were begun, and of engines that ran."""
    last: dict[int, Outcome] = {}
    for outcome in outcomes:
        last[outcome.slot] = outcome
    for slot, outcome in sorted(last.items()):
        if isinstance(outcome, Begun):
            yield LaunchEnded(outcome.point, INTERRUPTED, is_confirming=outcome.is_confirming, slot=slot)
        elif not isinstance(outcome, Ended) and not _is_over(outcome):
            yield Ended(outcome.point, INTERRUPTED, slot)


def _is_over(outcome: Outcome) -> bool:
    """Whether no engine runs behind this outcome."""
    if isinstance(outcome, LaunchEnded):
        return outcome.cause is not None
    return isinstance(outcome, Soaked) and outcome.died_at_tokens is not None


def clean_up_after(journal: SweepJournal, say: Callable[[str], None]) -> None:
    """Stop the engines that killed supervisors of this sweep left on this machine: they hold its cards.

    Raises LaunchError when one cannot be stopped.
    """
    begun = [entry for entry in journal.entries() if entry.worker is not None and entry.host == platform.node()]
    if not begun:
        return
    first = begun[0].time - SECONDS_BEFORE
    workers = {entry.worker for entry in begun}
    finder = EngineFinder()
    for path in find_runs(paths.runs_dir()):
        run = read_run(path, is_supervised)
        if run.state != "lost" or run.supervisor not in workers or (run.started or 0) < first:
            continue
        left = finder.open(run)
        if left is None:
            continue
        say(f"the engine of {run.id} was left over by a killed sweep: it is stopped")
        report = left.engine.stop(stop_seconds=10.0)
        if report.problems:
            raise NexusError(*report.problems)
