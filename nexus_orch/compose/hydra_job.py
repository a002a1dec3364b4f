"""What Hydra calls: one composed configuration to a RunSpec, and on to the task."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nexus_orch.compose.environment import changed_environment
from nexus_orch.compose.job import AppResult, JobInfo, JobOutcome, OnBadPoint, Task
from nexus_orch.compose.loader import opened_loader
from nexus_orch.compose.origins import find_origins
from nexus_orch.compose.overrides import parse_overrides
from nexus_orch.compose.run import Request, file_folders, make_run
from nexus_orch.errors import ExitCode, NexusError
from nexus_orch.types import RunSpec


class HydraJob:
    """The task function of `@hydra.main`: returns the objective, and raises nothing for a point of a sweep that failed.

    A launcher may pickle it and call it in another process; `outcomes` then holds the jobs of this process only.
    """

    def __init__(self, task: Task, on_bad_point: OnBadPoint, request: Request, hidden: dict[str, str | None]) -> None:
        """`hidden` are environment variables, set for Hydra's sake, that the task gets as they were."""
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
        return outcome.objective

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
        code = failures[0] if all_failed else ExitCode.GOOD
        folder = sweep_dir or self.sweep_dir
        return AppResult("run" if folder is None else "multirun", code, folder)


def _read_info() -> JobInfo:
    node = HydraConfig.get()
    overrides = tuple(str(text) for text in node.overrides.task)
    if node.mode != RunMode.MULTIRUN:
        return JobInfo("run", overrides=overrides)
    return JobInfo("multirun", int(node.job.num), overrides, Path(node.sweep.dir).absolute())
