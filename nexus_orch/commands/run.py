"""`nexus-run` and `nexus run`: compose, plan, launch and supervise in the foreground; `-m` sweeps."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nexus_orch.commands.detach import run_detached, split_detach
from nexus_orch.compose.app import run_app
from nexus_orch.compose.job import JobInfo, JobOutcome
from nexus_orch.compose.project import find_project, split_project
from nexus_orch.errors import ConfigError, ExitCode, NexusError, PlanError, Problem
from nexus_orch.install.models.bundled import fetch_awaited
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.run import RunOutcome, prepare_run, run_session
from nexus_orch.sweep.points import SWEEP_QUESTION, Point, append_point, read_points, write_summary
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
    result = run_app(overrides, runner.run, project=project, on_bad_point=runner.skip, judge=runner.judge)
    if result.sweep_dir is not None:
        _tell_sweep(result.sweep_dir, view_format)
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
    """The task of each Hydra job: one run, or one point of a sweep."""

    def __init__(self, view_format: ViewFormat, project: Path | None) -> None:
        self._format = view_format
        self._plugins = load_plugins(project)
        self._started = time.monotonic()

    def judge(self, spec: RunSpec) -> list[Problem]:
        """What the plugins have against a run."""
        return self._plugins.judge(spec)

    def run(self, spec: RunSpec, job: JobInfo) -> JobOutcome:
        """Serve the run. Raises NexusError when it ends badly; in a sweep Hydra hands that to `skip`."""
        self._started = time.monotonic()
        outcome = self._serve(_as_point(spec) if job.sweep_dir is not None else spec)
        if job.sweep_dir is not None:
            append_point(job.sweep_dir, _served_point(job, outcome, time.monotonic() - self._started))
        if outcome.problems and job.sweep_dir is None:
            sys.stderr.write("".join(_render_end(outcome)))
        return JobOutcome(outcome.exit_code, outcome.measured.get("tokens_per_second"))

    def skip(self, error: NexusError, job: JobInfo) -> JobOutcome:
        """A point of a sweep that was not launched: write down why, and go on."""
        if job.sweep_dir is not None:
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
    good = outcome.exit_code == ExitCode.GOOD
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


def _tell_sweep(sweep_dir: Path, view_format: ViewFormat) -> None:
    """The table of the points, and where the machine-readable file lies."""
    from nexus_orch.view.sweep import print_sweep  # noqa: PLC0415 - rich is not needed before

    points = read_points(sweep_dir)
    summary = write_summary(sweep_dir, points)
    if view_format == "json":
        sys.stdout.write(summary.read_text(encoding="utf-8"))
        return
    print_sweep(points, sys.stdout)
    sys.stdout.write(f"{summary}\n")
