"""`hydra/sweeper=nexus`: the sweeper of nexus_orch, which plans every point and launches few of them.

Hydra imports every module below `hydra_plugins` whenever it composes: this one must stay small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="nexus",
    node={"_target_": "hydra_plugins.nexus_sweeper.NexusSweeper"},
    provider="nexus_orch",
)


class NexusSweeper(Sweeper):
    """Hands the grid to nexus_orch, and to Hydra's launcher what nexus_orch wants launched."""

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        """`params` are the grid of a configuration file (`hydra.sweeper.params`), as Hydra's own sweeper takes it."""
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.task_function: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config, self.task_function = hydra_context, config, task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Search the grid that the arguments name."""
        if self.hydra_context is None or self.config is None or not hasattr(self.task_function, "search"):
            raise HydraException("hydra/sweeper=nexus belongs to nexus-run")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        named = {argument.lstrip("+").partition("=")[0] for argument in arguments}
        filed = [f"{key}={value}" for key, value in self.params.items() if key not in named]
        overrides = parser.parse_overrides([*filed, *arguments])
        return self.task_function.search(overrides, self._launch)

    def _launch(self, batch: Sequence[Sequence[str]], first_number: int) -> None:
        """Have these jobs done. Raises what a job raised."""
        if self.launcher is None:
            raise HydraException("the sweeper was not set up")
        for done in self.launcher.launch([list(overrides) for overrides in batch], initial_job_idx=first_number):
            _ = done.return_value  # raises what the job raised
