"""`nexus-run` and `nexus run`: compose, plan, launch and supervise in the foreground; `-m` sweeps."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nexus_orch.commands.detach import run_detached, split_detach
from nexus_orch.compose.app import run_app
from nexus_orch.compose.job import JobInfo, JobOutcome, SweepAsked, SweepCall
from nexus_orch.compose.project import find_project, split_project
from nexus_orch.errors import ConfigError, ExitCode, NexusError, PlanError, Problem
from nexus_orch.install.models.bundled import fetch_awaited
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.run import RunOutcome, prepare_run, run_session
from nexus_orch.sweep.points import SWEEP_QUESTION, Point, append_point, read_points, write_summary
from nexus_orch.sweep.run.journal import SweepJournal
from nexus_orch.sweep.run.quiet import SweepVoice
from nexus_orch.sweep.run.resume import choose_folder, command_of
from nexus_orch.sweep.run.search import SweepOrder, SweepSearch
from nexus_orch.sweep.run.table import list_points
from nexus_orch.sweep.run.worker import LaunchOrder, run_launch
from nexus_orch.types import RunSpec
from nexus_orch.view.run_view import ViewFormat, make_view

FORMAT_OPTION = "--format"
FORMATS: tuple[ViewFormat, ...] = ("auto", "live", "plain", "json")


def main(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code of the run, or of the sweep."""
    is_detached, arguments = split_detach(arguments)
    if is_detached:
        return run_detached(arguments)
    logging.raiseExceptions = False  # Hydra prints by logging: a reader that left (`| head`) is no error to tell
    view_format, rest = split_format(arguments)
    project, overrides = split_project(rest)
    runner = _Runner(view_format, find_project(project))
    result = run_app(
        overrides,
        runner.run,
        project=project,
        on_bad_point=runner.skip,
        judge=runner.judge,
        search=runner.search,
        place_sweep=runner.place,
    )
    if result.sweep_dir is not None:
        return _tell_sweep(result.sweep_dir, view_format, result.exit_code)
    return result.exit_code


def split_format(arguments: Sequence[str]) -> tuple[ViewFormat, list[str]]:
    """Take `--format NAME` out of a command line, which else is Hydra's. Raises ConfigError for an unknown name."""
    chosen, rest, words = "auto", [], iter(arguments)
    for word in words:
        if word == FORMAT_OPTION:
            chosen = next(words, "")
        elif word.startswith(f"{FORMAT_OPTION}="):
            chosen = word.partition("=")[2]
        else:
            rest.append(word)
    for known in FORMATS:
        if chosen == known:
            return known, rest
    raise ConfigError(Problem("unknown format", FORMAT_OPTION, chosen, "command line", f"one of {', '.join(FORMATS)}"))


class _Runner:
    """The task of each Hydra job: one run, or one point of a sweep. A launcher may pickle it."""

    def __init__(self, view_format: ViewFormat, project: Path | None) -> None:
        self._format = view_format
        self._project = project
        self._started = time.monotonic()

    @cached_property
    def _plugins(self) -> Plugins:
        return load_plugins(self._project)

    def __getstate__(self) -> dict[str, Any]:
        """Without the plugins, which are modules that another process loads for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_plugins"}

    def judge(self, spec: RunSpec) -> list[Problem]:
        """What the plugins have against a run."""
        return self._plugins.judge(spec)

    def place(self, asked: SweepAsked) -> Path:
        """Where a sweep of ours is kept: an interrupted one of the same command goes on."""
        if not asked.is_search:
            return asked.folder
        return choose_folder(asked.spec.resume, command_of(asked.overrides), self._project_name, asked.folder)

    def search(self, call: SweepCall) -> ExitCode:
        """The sweep of our own sweeper."""
        from nexus_orch.sweep.search.decide import decide  # noqa: PLC0415 - what it needs takes a second to import

        asked = call.asked
        order = SweepOrder(
            asked.folder,
            call.base,
            call.grid,
            asked.spec,
            command_of(asked.overrides),
            self._project,
            self._project_name,
        )
        stream = sys.stderr if self._format == "json" else sys.stdout
        return SweepSearch(order, self._plugins, call.launch_jobs, decide, SweepVoice(stream)).run()

    @property
    def _project_name(self) -> str:
        return "" if self._project is None else str(self._project.absolute())

    def run(self, spec: RunSpec, job: JobInfo) -> JobOutcome:
        """Serve the run. Raises NexusError when it ends badly; in a sweep Hydra hands that to `skip`."""
        self._started = time.monotonic()
        if job.is_search and job.sweep_dir is not None:
            return self._launch(spec, SweepJournal(job.sweep_dir), job.number or 0)
        outcome = self._serve(_as_point(spec) if job.sweep_dir is not None else spec)
        if job.sweep_dir is not None:
            append_point(job.sweep_dir, _served_point(job, outcome, time.monotonic() - self._started))
        if outcome.problems and job.sweep_dir is None:
            sys.stderr.write("".join(_render_end(outcome)))
        return JobOutcome(outcome.exit_code, outcome.measured.get("tokens_per_second"))

    def _launch(self, spec: RunSpec, journal: SweepJournal, number: int) -> JobOutcome:
        """One launch of our own sweeper: what came of it stands in the journal."""
        from nexus_orch.sweep.search.decide import decide  # noqa: PLC0415

        stream = sys.stderr if self._format == "json" else sys.stdout
        outcome = run_launch(spec, LaunchOrder(journal, number, decide, SweepVoice(stream)), self._plugins)
        return JobOutcome(ExitCode.LAUNCH_FAILED if outcome is None else outcome.exit_code)

    def skip(self, error: NexusError, job: JobInfo) -> JobOutcome:
        """A point of a sweep that was not launched: write down why, and go on."""
        if job.sweep_dir is not None and not job.is_search:
            append_point(job.sweep_dir, _refused_point(job, error))
        sys.stderr.write(f"point {job.number} is not launched: {error}\n")
        return JobOutcome(error.exit_code)

    def _serve(self, spec: RunSpec) -> RunOutcome:
        preparation = prepare_run(spec, self._plugins)
        if fetch_awaited(spec.model, sys.stderr, python=spec.engine.python):
            preparation = prepare_run(spec, self._plugins)  # now from the model's own files
        return run_session(preparation, self._plugins, make_view(self._format, sys.stdout))


def _as_point(spec: RunSpec) -> RunSpec:
    """A point of a sweep answers one question and ends, unless the profile says otherwise."""
    probe = replace(spec.probe, then=spec.probe.then or "stop", question=spec.probe.question or SWEEP_QUESTION)
    return replace(spec, probe=probe)


def _render_end(outcome: RunOutcome) -> Sequence[str]:
    return [
        f"error: {problem.message}\n" + (f"    remedy: {problem.remedy}\n" if problem.remedy else "")
        for problem in outcome.problems
    ] + [f"    all of it: nexus logs {outcome.run_id}\n"]


def _served_point(job: JobInfo, outcome: RunOutcome, seconds: float) -> Point:
    good = outcome.exit_code == ExitCode.GOOD and outcome.was_ready and not outcome.stopped
    return Point(
        number=job.number or 0,
        overrides=job.overrides,
        outcome="served" if good else "interrupted" if outcome.cause is None else "failed",
        exit_code=int(outcome.exit_code),
        seconds=round(seconds, 2),
        run_id=outcome.run_id,
        cause=outcome.cause,
        message=outcome.problems[0].message.splitlines()[0] if outcome.problems else "",
        measured=dict(outcome.measured),
    )


def _refused_point(job: JobInfo, error: NexusError) -> Point:
    first = error.problems[0]
    return Point(
        number=job.number or 0,
        overrides=job.overrides,
        outcome="does_not_fit" if isinstance(error, PlanError) else "bad_config",
        exit_code=int(error.exit_code),
        seconds=0.0,
        cause=first.cause,
        message=first.message,
    )


def _tell_sweep(sweep_dir: Path, view_format: ViewFormat, code: ExitCode) -> ExitCode:
    """The table of the points, and where the machine-readable file lies; the exit code of the sweep."""
    from nexus_orch.view.sweep import print_sweep  # noqa: PLC0415 - rich is not needed before

    journal = SweepJournal(sweep_dir)
    points = list_points(journal) if journal.is_there else read_points(sweep_dir)
    if points or sweep_dir.is_dir():
        summary = write_summary(sweep_dir, points)
        if view_format == "json":
            sys.stdout.write(summary.read_text(encoding="utf-8"))
        else:
            print_sweep(points, sys.stdout)
            sys.stdout.write(f"{summary}\n")
    if code == ExitCode.GOOD and points and not any(point.outcome == "served" for point in points):
        return ExitCode(points[0].exit_code)  # of jobs that another process did
    return code
