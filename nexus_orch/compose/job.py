"""The nouns of `run_app`: what a job is told, and what comes back from it. Imports no Hydra."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexus_orch.errors import ExitCode, NexusError
from nexus_orch.types import RunSpec, SweepSpec

Mode = Literal["run", "multirun"]


@dataclass(frozen=True)
class JobInfo:
    """One job of Hydra: the only one of a run, or one point of a sweep.

    `number` counts the points from 0 (None in a run), `overrides` are those of this job, `sweep_dir` is the folder of
    the whole sweep (None in a run). `is_search` marks a launch of our own sweeper, which has more to do than to ask.
    """

    mode: Mode = "run"
    number: int | None = None
    overrides: tuple[str, ...] = ()
    sweep_dir: Path | None = None
    is_search: bool = False


@dataclass(frozen=True)
class SweepAsked:
    """A sweep as it is asked for: its folder, its section of the configuration, and whether our own sweeper does it.

    `overrides` are those of the command line.
    """

    folder: Path
    spec: SweepSpec
    overrides: tuple[str, ...] = ()
    is_search: bool = False


@dataclass(frozen=True)
class SweepCall:
    """What Hydra hands to our sweeper: overrides of all points, the values that are swept, and who does the jobs."""

    asked: SweepAsked
    base: tuple[str, ...]
    grid: Mapping[str, Sequence[Any]]
    launch_jobs: Callable[[Sequence[Sequence[str]], int], None]
    """Have jobs done: their overrides, and the number of the first one."""


@dataclass(frozen=True)
class JobOutcome:
    """`objective` is what a sweeper such as optuna optimises; None when there is nothing to compare."""

    exit_code: ExitCode
    objective: float | None = None


@dataclass(frozen=True)
class AppResult:
    """What the application did. `printed_only`: it was asked to show something (--cfg, --info, --help ...).

    `exit_code` of a sweep is GOOD unless every point that ran in this process failed; then it is the first failure's.
    """

    mode: Mode
    exit_code: ExitCode
    sweep_dir: Path | None = None
    printed_only: bool = False


Task = Callable[[RunSpec, JobInfo], JobOutcome]
Search = Callable[[SweepCall], ExitCode]
"""Our sweeper: from the grid to the exit code of the sweep."""
PlaceSweep = Callable[[SweepAsked], Path]
"""Where a sweep is kept: in the folder that was asked for, or where an earlier one goes on."""
OnBadPoint = Callable[[NexusError, JobInfo], JobOutcome]
"""Called instead of the task's own outcome when a point of a sweep has no valid spec, or the task raised."""


def skip_bad_point(error: NexusError, job: JobInfo) -> JobOutcome:
    """The plainest `OnBadPoint`: the point counts as failed, and the sweep goes on."""
    return JobOutcome(error.exit_code)


def place_as_asked(asked: SweepAsked) -> Path:
    """The plainest `PlaceSweep`: each sweep in a folder of its own."""
    return asked.folder
