"""`nexus-run` as a true `@hydra.main` application: -m, --cfg, --info, --help, sweepers, launchers and completion work.

Everything is checked before Hydra starts, so that a mistake becomes a ConfigError instead of Hydra's own message; what
Hydra still raises (a sweeper's settings, a launcher that is not there) is turned into one.
"""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from nexus_orch import __version__, shipped
from nexus_orch.compose.environment import changed_arguments, changed_environment
from nexus_orch.compose.hydra_job import HydraJob, SweepEndedError
from nexus_orch.compose.job import (
    AppResult,
    OnBadPoint,
    PlaceSweep,
    Search,
    Task,
    place_as_asked,
    skip_bad_point,
)
from nexus_orch.compose.loader import PRIMARY, VERSION_BASE
from nexus_orch.compose.mistakes import HYDRA_MISTAKES, make_config_error
from nexus_orch.compose.project import split_project
from nexus_orch.compose.run import Judge, Request, accept_all, check_overrides_of, check_sweep, compose_request
from nexus_orch.compose.search_path import find_search_path, searching
from nexus_orch.compose.shorthand import expand_overrides
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.paths import home_dir

_FULL_ERROR = "HYDRA_FULL_ERROR"
"""With this variable set to 1 Hydra raises what it otherwise prints before it leaves the process."""

_COMPLETED_LINE = "COMP_LINE"
"""In this variable the shell tells the line that is to be completed."""

_PRINTED = AppResult("run", ExitCode.GOOD, printed_only=True)


def run_app(
    argv: Sequence[str],
    task: Task,
    *,
    project: Path | None = None,
    plugin_conf_dirs: Sequence[Path] = (),
    program: str = "nexus-run",
    on_bad_point: OnBadPoint = skip_bad_point,
    judge: Judge = accept_all,
    search: Search | None = None,
    place_sweep: PlaceSweep = place_as_asked,
) -> AppResult:
    """Do what the command line `argv` (without the program's name) asks for, calling `task` for each job.

    A `--project DIR` in `argv` goes before `project`, and NEXUS_PROJECT comes last; `judge` says what plugins have
    against a spec. `search` is our own sweeper, and `place_sweep` says where a sweep of it is kept. Raises ConfigError
    for a mistake that concerns the whole command line, and in a run also what the task raised. In a sweep a NexusError
    concerns one point: it goes to `on_bad_point`, and the sweep goes on.
    """
    named, arguments = split_project(argv)
    if "--version" in arguments:
        sys.stdout.write(f"{program} {__version__} (Hydra {hydra.__version__})\n")
        return _PRINTED
    flags = _parse_flags(arguments, program)
    if flags.shell_completion:
        arguments = _flags_first(arguments, flags.overrides, flags.overrides)
        return _complete(arguments, named or project, plugin_conf_dirs, program)
    extra = None if flags.config_dir is None else Path(flags.config_dir)
    path = find_search_path(named or project, plugin_conf_dirs, extra)
    overrides = expand_overrides(flags.overrides, path.folders)
    arguments = _flags_first(arguments, flags.overrides, overrides)
    request = Request(path, overrides, flags.config_name or PRIMARY, judge)
    job = HydraJob(task, on_bad_point, request, {_FULL_ERROR: os.environ.get(_FULL_ERROR)})
    job.searcher = search
    with _home_resolver():
        if _only_prints(flags):
            if flags.cfg or flags.info:
                check_overrides_of(request)
            return replace(_PRINTED, exit_code=_start_hydra(job, request, program, arguments))
        if not _is_sweep(flags):
            compose_request(request)
            _start_hydra(job, request, program, arguments)
            return job.result()
        # Decided once, so that the folder is the same for a point that runs in another process
        job.asked = check_sweep(request)
        sweep_dir = place_sweep(job.asked)
        job.asked = replace(job.asked, folder=sweep_dir)
        quoted = QuotedString(str(sweep_dir), Quote.single).with_quotes()
        _start_hydra(job, request, program, [*arguments, f"hydra.sweep.dir={quoted}"])
        return job.result(sweep_dir)


def _complete(
    arguments: Sequence[str], project: Path | None, plugin_conf_dirs: Sequence[Path], program: str
) -> AppResult:
    """Shell completion: the shell tells the line in a variable, with its --project, over which Hydra would stumble."""
    line = os.environ.get(_COMPLETED_LINE, "")
    if line.split()[-1:] == ["--project"]:
        return _PRINTED  # Without words of ours the shell completes folders
    named, words = split_project(line.split())
    request = Request(find_search_path(named or project, plugin_conf_dirs))
    rest = " ".join(words) + (" " if line.endswith(" ") else "")
    with changed_environment({_COMPLETED_LINE: rest} if line else {}):
        return replace(_PRINTED, exit_code=_start_hydra(None, request, program, arguments))


def _parse_flags(arguments: Sequence[str], program: str) -> Namespace:
    """Hydra's own flags. Raises ConfigError for an unknown one, and for --config-path."""
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint), changed_arguments(program, arguments):
            flags: Namespace = get_args_parser().parse_intermixed_args(arguments)
    except SystemExit as error:
        reason = complaint.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError(Problem(reason, origin="command line", remedy=f"{program} --hydra-help")) from error
    if flags.config_path is not None:
        remedy = "--project DIR brings a conf folder of your own, --config-dir DIR adds one"
        raise ConfigError(Problem("the shipped profiles stay", "--config-path", flags.config_path, None, remedy))
    return flags


def _flags_first(arguments: Sequence[str], written: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Hydra's parser wants all overrides in one row; here flags may stand between the `written` ones."""
    left = list(written)
    flags = [word for word in arguments if not (left and word == left[0] and left.pop(0))]
    return [*flags, *overrides]


def _only_prints(flags: Namespace) -> bool:
    return bool(flags.help or flags.hydra_help or flags.cfg or flags.info)


def _is_sweep(flags: Namespace) -> bool:
    return bool(flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides)


@contextmanager
def _home_resolver() -> Iterator[None]:
    """While this lasts, ${nexus.home:} in profiles is the data directory."""
    OmegaConf.register_new_resolver("nexus.home", lambda: str(home_dir()), replace=True)
    try:
        yield
    finally:
        OmegaConf.clear_resolver("nexus.home")


def _start_hydra(job: HydraJob | None, request: Request, program: str, arguments: Sequence[str]) -> ExitCode:
    """Hand the command line to `@hydra.main`; it calls `job`. Raises ConfigError for what Hydra refuses."""
    main = hydra.main(config_path=str(shipped.conf_dir()), config_name=PRIMARY, version_base=VERSION_BASE)(job or _idle)
    config = HydraConfig.instance()
    before = config.cfg
    try:
        with searching(request.path), changed_arguments(program, arguments), changed_environment({_FULL_ERROR: "1"}):
            main()
    except SweepEndedError:
        return ExitCode.GOOD  # the job tells the exit code
    except SystemExit as leave:
        return ExitCode.GOOD if leave.code in (None, 0) else ExitCode.CONFIG
    except HYDRA_MISTAKES as error:
        if job is not None and job.working:
            raise  # a bug in the task, which must not look like a mistake of the user
        raise make_config_error(error, request.path, request.overrides) from error
    finally:
        config.cfg = before  # --cfg and --help leave theirs behind
    return ExitCode.GOOD


def _idle(cfg: DictConfig) -> None:
    """The task of a command line that starts none, such as completion."""
