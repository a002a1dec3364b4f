"""`nexus stop`: ask a run's supervisor to end it; where the supervisor is gone, stop what it left behind."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress

import psutil

from nexus_orch import paths
from nexus_orch.commands.known_runs import read_ended, read_known_run, read_open_runs
from nexus_orch.errors import ConfigError, ExitCode, LaunchError, NexusError, Problem
from nexus_orch.launch.processes.family import find_process
from nexus_orch.launch.processes.stop import KILL_SECONDS
from nexus_orch.launch.processes.supervisor import is_elsewhere
from nexus_orch.record.events import Finished, Stopping
from nexus_orch.record.find import find_run
from nexus_orch.record.history import history_path, remember_run
from nexus_orch.record.journal import JournalWriter
from nexus_orch.record.run_folder import RunFolder, read_spec
from nexus_orch.record.run_record import RunRecord
from nexus_orch.record.stop_request import StopRequest, write_stop_request
from nexus_orch.types import LimitsSpec, ProcessKey
from nexus_orch.view.words import render_duration

POLL_SECONDS = 0.25
TELL_SECONDS = 5.0
RUNGS = 3
RELEASE_SECONDS = 45.0
"""Beside the rungs of the stop ladder: the kernel ends processes late, and the cards' memory must come back."""
FORCE_SECONDS = KILL_SECONDS + 5.0
"""How long a supervisor has that was asked to use force, before it is ended itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    told = "an id or its unique beginning; a run that is on is stopped by its name"
    parser.add_argument("run", nargs="?", metavar="RUN", help=told)
    parser.add_argument("--all", action="store_true", help="every run that is on, and every engine that was left over")
    parser.add_argument("--force", action="store_true", help="kill at once, the supervisor too if it does not react")


def run(args: argparse.Namespace) -> int:
    records = _choose(args.run, every=args.all)
    for record in records:
        _ask(record, force=args.force)
    problems: list[Problem] = []
    for record in records:
        try:
            _end(record, force=args.force)
        except NexusError as error:
            problems.extend(error.problems)
    if problems:
        raise LaunchError(*problems)
    return ExitCode.GOOD


def _choose(text: str | None, *, every: bool) -> tuple[RunRecord, ...]:
    """The runs to stop: the one that is named, all, or without a name what a killed supervisor left behind.

    A run that is on serves somebody: it is never stopped unasked. Raises ConfigError when it must be named.
    """
    if text is not None and not every:
        return (read_known_run(find_run(paths.runs_dir(), text)),)
    if text is not None:
        raise ConfigError(Problem("--all and the name of one run contradict each other", value=text))
    found = read_open_runs(read_ended())
    running = tuple(record for record in found if not record.is_over)
    if every:
        return found
    if len(running) == 1:
        (record,) = running
        raise ConfigError(Problem(f"{record.id} is on ({record.state})", remedy=f"nexus stop {record.id}, or --all"))
    if len(running or found) > 1:
        ids = ", ".join(record.id for record in running or found)
        raise ConfigError(Problem("which run?", remedy=f"name one of {ids}, or use --all"))
    if not found:
        _say("nothing runs")
    return found


def _ask(record: RunRecord, *, force: bool) -> None:
    if not record.is_over:
        reason = "nexus stop --force" if force else "nexus stop"
        write_stop_request(RunFolder(record.path).stop_request, StopRequest(time.time(), reason, force))
        _say(f"{record.id}: asked to stop")


def _end(record: RunRecord, *, force: bool) -> None:
    """See a run to its end, whatever state it is in. Raises LaunchError when something of it stays."""
    if record.state == "lost":
        _clean_up(record, "nexus stop: its supervisor was gone", force=force)
    elif record.is_over:
        _say(f"{record.id}: has ended already ({record.state})")
    else:
        _wait_for_end(record, force=force)


def _wait_for_end(record: RunRecord, *, force: bool) -> None:
    """Wait for the supervisor; one that ends without a word is cleaned up after."""
    started = time.monotonic()
    limits = _limits_of(record)
    patience = FORCE_SECONDS if force else RUNGS * limits.stop_seconds + RELEASE_SECONDS
    told = started
    while not record.is_over:
        now = time.monotonic()
        if now - started > patience:
            _give_up(record, force=force, seconds=patience)
            return
        if now - told >= TELL_SECONDS:
            told = now
            _say(f"{record.id}: {'stopping' if record.stopping else 'not yet stopping'}, {now - started:.0f} s")
        time.sleep(POLL_SECONDS)
        record = read_known_run(record.path)
    if record.state == "lost":
        _clean_up(record, "nexus stop: its supervisor ended without a word", force=force)
    else:
        _say(f"{record.id}: stopped after {render_duration(time.monotonic() - started)}")


def _give_up(record: RunRecord, *, force: bool, seconds: float) -> None:
    """The supervisor does not react: end it with force if that is wanted, and then its engine."""
    pid = record.supervisor.pid if record.supervisor else None
    if not force or is_elsewhere(record.host):
        where = f" on {record.host}" if is_elsewhere(record.host) else ""
        message = f"the supervisor of {record.id} (process {pid}{where}) does not react after {seconds:.0f} s"
        raise LaunchError(Problem(message, remedy=f"nexus stop --force {record.id}, on that machine"))
    _say(f"{record.id}: its supervisor (process {pid}) does not react and is killed")
    _kill_supervisor(record)
    _clean_up(record, "nexus stop --force: its supervisor did not react", force=True)


def _kill_supervisor(record: RunRecord) -> None:
    """Kill it and wait until it does nothing more. Who started it may leave it a zombie, which does nothing."""
    key = record.supervisor
    process = find_process(ProcessKey(key.pid, key.create_time)) if key else None
    if key is None or process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.kill()
    until = time.monotonic() + KILL_SECONDS
    while find_process(key) is not None:
        if time.monotonic() > until:
            told = f"the supervisor of {record.id} (process {key.pid}) does not end although it was killed"
            raise LaunchError(Problem(told, remedy="it waits in the kernel, most often for a disk; try again later"))
        time.sleep(POLL_SECONDS)


def _clean_up(record: RunRecord, reason: str, *, force: bool) -> None:
    """Stop every process that a lost run left, and write the end that its supervisor could not write."""
    from nexus_orch.session.left_over import EngineFinder  # noqa: PLC0415 - lost runs are rare, the session large

    if is_elsewhere(record.host):
        raise LaunchError(
            Problem(f"{record.id} ran on {record.host}", remedy=f"nexus stop {record.id}, on that machine")
        )
    left = EngineFinder().open(record)
    journal = JournalWriter(RunFolder(record.path).journal)
    journal.append(Stopping(time.time(), reason, force))
    if left is None:
        what = "no engine was started" if record.provider is None else "nothing was left of it"
        _say(f"{record.id}: its supervisor is gone; {what}")
    else:
        stop_seconds = 0.0 if force else _limits_of(record).stop_seconds
        report = left.engine.stop(
            stop_seconds=stop_seconds, force=force, on_rung=lambda rung: _say(f"{record.id}: {rung}")
        )
        if report.problems:
            journal.close()
            raise LaunchError(*report.problems)
        _say(f"{record.id}: its supervisor is gone; stopped after {render_duration(report.seconds)}")
    journal.append(Finished(time.time(), ExitCode.ENVIRONMENT, reason=reason))
    journal.close()
    remember_run(history_path(), paths.runs_dir(), read_known_run(record.path))


def _limits_of(record: RunRecord) -> LimitsSpec:
    try:
        return read_spec(RunFolder(record.path)).limits
    except ConfigError:  # the defaults are good enough to stop a run whose spec cannot be read
        return LimitsSpec()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
