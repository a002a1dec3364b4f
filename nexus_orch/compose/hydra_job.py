"""What Hydra calls: one composed configuration to a RunSpec, and on to the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, QuotedString, Transformer
from hydra.types import RunMode
from omegaconf import DictConfig

from nexus_orch.compose.environment import changed_environment
from nexus_orch.compose.job import (
    AppResult,
    JobInfo,
    JobOutcome,
    OnBadPoint,
    Search,
    SweepAsked,
    SweepCall,
    Task,
)
from nexus_orch.compose.loader import opened_loader
from nexus_orch.compose.origins import COMMAND_LINE, find_origins
from nexus_orch.compose.overrides import parse_overrides
from nexus_orch.compose.run import OUR_SWEEPER, Request, check_sweep, file_folders, make_run
from nexus_orch.errors import ConfigError, ExitCode, NexusError, Problem
from nexus_orch.types import RunSpec

_ENDING = (ExitCode.INTERRUPTED, ExitCode.ENVIRONMENT)
"""Exit codes of a point with which its sweep ends: somebody wanted that, or no other point would fare better."""


class SweepEndedError(KeyboardInterrupt):
    """Raised out of a job, past everything that would go on with the next one."""


class HydraJob:
    """The task function of `@hydra.main`: returns the objective, and raises nothing for a point of a sweep that failed.

    A launcher may pickle it and call it in another process; `outcomes` then holds the jobs of this process only.
    """

    def __init__(self, task: Task, on_bad_point: OnBadPoint, request: Request, hidden: dict[str, str | None]) -> None:
        """`hidden` are environment variables, set for Hydra's sake, that the task gets as they were."""
        self.asked: SweepAsked | None = None
        """The sweep that is to be done."""
        self.searcher: Search | None = None
        """Who does it, where our own sweeper is chosen. It stays in this process."""
        self.ended: ExitCode | None = None
        """The exit code of a sweep that was ended, or of a search."""
        self.outcomes: list[JobOutcome] = []
        self.error: NexusError | None = None
        """What the task of a run raised; kept, because Hydra would print it with a traceback."""
        self.sweep_dir: Path | None = None
        """The folder of the sweep that called, if one did: a file may ask for a sweep (`hydra.mode: MULTIRUN`) too."""
        self.working = False
        """Whether the task is at work: an error that is not a NexusError, and comes out of it, is a bug of ours."""
        self._task = task
        self._on_bad_point = on_bad_point
        self._request = request
        self._hidden = hidden

    def __call__(self, cfg: DictConfig) -> float | None:
        self.working = True
        info = _read_info()
        self.sweep_dir = info.sweep_dir
        with changed_environment(self._hidden):
            outcome = self._work(cfg, info)
        self.working = False
        self.outcomes.append(outcome)
        if info.mode == "multirun" and not info.is_search and outcome.exit_code in _ENDING:
            self.ended = outcome.exit_code
            raise SweepEndedError
        return outcome.objective

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to do a job."""
        return {**self.__dict__, "searcher": None, "outcomes": []}

    def search(
        self, overrides: Sequence[Override], launch_jobs: Callable[[Sequence[Sequence[str]], int], None]
    ) -> ExitCode | None:
        """Called by our sweeper (`hydra_plugins/nexus_sweeper`) with the overrides of the command line."""
        if self.searcher is None:
            return None
        try:
            asked = self.asked or check_sweep(self._request)
            self.sweep_dir = asked.folder
            base, grid = split_sweep(overrides)
            self.ended = self.searcher(SweepCall(asked, base, grid, launch_jobs))
        except NexusError as error:
            self.error = error
        return self.ended

    def _work(self, cfg: DictConfig, info: JobInfo) -> JobOutcome:
        try:
            return self._task(self._make_spec(cfg), info)
        except NexusError as error:
            if info.mode == "multirun":
                return self._on_bad_point(error, info)
            self.error = error
            return JobOutcome(error.exit_code)

    def _make_spec(self, cfg: DictConfig) -> RunSpec:
        node = HydraConfig.get()
        texts = [*node.overrides.hydra, *node.overrides.task]
        with opened_loader(self._request.path) as loader:
            overrides, _ = parse_overrides(texts, loader)
            files = loader.compute_defaults_list(node.job.config_name, texts, RunMode.RUN).defaults
        origins = find_origins(files, file_folders(node), overrides)
        return make_run(cfg, node.runtime.choices, origins, self._request.judge)

    def result(self, sweep_dir: Path | None = None) -> AppResult:
        """What became of all jobs; `sweep_dir` where it is known. Raises what the task of a run raised."""
        if self.error is not None:
            raise self.error
        failures = [outcome.exit_code for outcome in self.outcomes if outcome.exit_code != ExitCode.GOOD]
        all_failed = bool(failures) and len(failures) == len(self.outcomes)
        code = self.ended if self.ended is not None else failures[0] if all_failed else ExitCode.GOOD
        folder = sweep_dir or self.sweep_dir
        return AppResult("run" if folder is None else "multirun", code, folder)


def _read_info() -> JobInfo:
    node = HydraConfig.get()
    overrides = tuple(str(text) for text in node.overrides.task)
    if node.mode != RunMode.MULTIRUN:
        return JobInfo("run", overrides=overrides)
    is_search = node.runtime.choices.get("hydra/sweeper") == OUR_SWEEPER
    return JobInfo("multirun", int(node.job.num), overrides, Path(node.sweep.dir).absolute(), is_search)


def split_sweep(overrides: Sequence[Override]) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
    """What all points share, as it was written, and the values of each key that is swept.

    Raises ConfigError for values that are no list, such as an interval.
    """
    base: list[str] = []
    grid: dict[str, list[Any]] = {}
    for override in overrides:
        if not override.is_sweep_override():
            base.append(str(override.input_line))
        elif override.is_discrete_sweep():
            values = override.sweep_iterator(transformer=Transformer.identity)
            grid[override.get_key_element()] = [_plain(value) for value in values]
        else:
            remedy = "name the values, as in KEY=1,2,3 or KEY=range(1,10,2); hydra/sweeper=optuna takes intervals"
            raise ConfigError(
                Problem("not a list of values", override.key_or_group, override.input_line, COMMAND_LINE, remedy)
            )
    return tuple(base), grid


def _plain(value: Any) -> Any:
    """A value of Hydra's grammar as YAML would give it."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    return value
