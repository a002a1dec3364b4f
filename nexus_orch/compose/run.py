"""Profiles and overrides to one validated `RunSpec`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from nexus_orch.compose.job import SweepAsked
from nexus_orch.compose.loader import EVERY_KEY, PRIMARY, NexusLoader, as_hydra_config, opened_loader
from nexus_orch.compose.mistakes import HYDRA_MISTAKES, BrokenFileError, make_config_error
from nexus_orch.compose.origins import find_file, find_origins
from nexus_orch.compose.overrides import check_overrides, parse_overrides
from nexus_orch.compose.resolve import resolve
from nexus_orch.compose.rules import judge_contradictions
from nexus_orch.compose.schema import known_keys
from nexus_orch.compose.search_path import SearchPath, find_search_path, shown_path
from nexus_orch.compose.shorthand import expand_overrides
from nexus_orch.compose.spec import make_spec, make_sweep_spec
from nexus_orch.compose.unbuilt import judge_unbuilt
from nexus_orch.compose.values import judge_values, settle
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.types import RunSpec

OUR_SWEEPER = "nexus"
"""The name of our sweeper among Hydra's (`hydra/sweeper`)."""

Judge = Callable[[RunSpec], Iterable[Problem]]
"""What plugins have against a valid spec (`Plugins.judge`)."""


def accept_all(spec: RunSpec) -> Iterable[Problem]:
    """The judge where no plugins are loaded."""
    return ()


def compose_run(
    overrides: Sequence[str],
    *,
    project: Path | None = None,
    plugin_conf_dirs: Sequence[Path] = (),
    judge: Judge = accept_all,
) -> RunSpec:
    """The run that these overrides mean, over the shipped, the plugins' and the user's profiles.

    `project` is the user's folder (None asks NEXUS_PROJECT). Leaves no global state of Hydra behind and changes no
    working directory. Raises ConfigError with all problems that were found, those of `judge` among them.
    """
    path = find_search_path(project, plugin_conf_dirs)
    return compose_request(Request(path, expand_overrides(overrides, path.folders), judge=judge))


@dataclass(frozen=True)
class Request:
    """What is to be composed: from which folders, with which overrides, starting at which file, and who judges it."""

    path: SearchPath
    overrides: tuple[str, ...] = ()
    config_name: str = PRIMARY
    judge: Judge = accept_all


@dataclass(frozen=True)
class Composition:
    """What Hydra composed, with its own `hydra` node; `origins` tells where each key was written."""

    cfg: DictConfig
    origins: Mapping[str, str]


@contextmanager
def mistakes_told(request: Request) -> Iterator[None]:
    """Turns what Hydra raises for a user's mistake into a ConfigError."""
    try:
        yield
    except HYDRA_MISTAKES as error:
        raise make_config_error(error, request.path, request.overrides) from error


def compose_request(request: Request) -> RunSpec:
    """The validated run of a request without sweeps. Raises ConfigError with all problems that were found."""
    with opened_loader(request.path) as loader:
        composition = compose_checked(loader, request, RunMode.RUN)
    with as_hydra_config(composition.cfg):
        return make_run(composition.cfg, composition.cfg.hydra.runtime.choices, composition.origins, request.judge)


def check_overrides_of(request: Request) -> None:
    """Check that a request can be composed, whatever its values are. Raises ConfigError with all problems."""
    with opened_loader(request.path) as loader:
        compose_checked(loader, request, RunMode.RUN)


def check_sweep(request: Request) -> SweepAsked:
    """Check what all points of a sweep share, and return what is asked of the sweep.

    Raises ConfigError with all problems of the values that are not swept; a point's own are found when its turn comes.
    """
    with opened_loader(request.path) as loader:
        composition = compose_checked(loader, request, RunMode.MULTIRUN)
        swept = {x.key_or_group for x in parse_overrides(request.overrides, loader)[0] if x.is_sweep_override()}
    with as_hydra_config(composition.cfg):
        values, problems = resolve(composition.cfg, composition.origins)
        problems += judge_values(values, composition.origins)
        with mistakes_told(request):
            folder = Path(composition.cfg.hydra.sweep.dir).absolute()
            sweeper = composition.cfg.hydra.runtime.choices.get("hydra/sweeper")
    shared = [problem for problem in problems if not _lies_in(str(problem.key), swept)]
    if shared:
        raise ConfigError(*shared)
    spec = make_sweep_spec(settle(values))
    return SweepAsked(folder, spec, tuple(request.overrides), is_search=sweeper == OUR_SWEEPER)


def _lies_in(key: str, swept: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in swept)


def compose_checked(loader: NexusLoader, request: Request, mode: RunMode) -> Composition:
    """Check the overrides, then compose. Swept values count in MULTIRUN only, and are left out of the composition."""
    with mistakes_told(request):
        overrides, problems = check_overrides(request.overrides, loader, request.config_name, mode)
    if problems:
        raise ConfigError(*problems, *_find_more_problems(loader, request, overrides, mode))
    return _compose(loader, request, overrides, mode)


def _find_more_problems(
    loader: NexusLoader, request: Request, overrides: Sequence[Override], mode: RunMode
) -> list[Problem]:
    """What is wrong besides the bad overrides: only what stands whatever they meant, broken files and bad values."""
    try:
        composition = _compose(loader, request, overrides, mode)
    except BrokenFileError as error:
        return list(error.problems)
    except ConfigError:
        return []
    with as_hydra_config(composition.cfg):
        values, problems = resolve(composition.cfg, composition.origins)
    return [*problems, *judge_values(values, composition.origins)]


def _compose(loader: NexusLoader, request: Request, overrides: Sequence[Override], mode: RunMode) -> Composition:
    texts = [str(override.input_line) for override in overrides]
    with mistakes_told(request):
        try:
            cfg = loader.load_configuration(request.config_name, texts, mode)
        finally:  # before Hydra complains about a key of ours that the user's own config.yaml lacks
            if loader.composed:
                _check_every_key(loader.composed, request)
    return Composition(cfg, find_origins(loader.composed, file_folders(cfg.hydra), overrides))


def _check_every_key(composed: Sequence[ResultDefault], request: Request) -> None:
    if not any(default.config_path == EVERY_KEY for default in composed):
        file = find_file(request.config_name, request.path.folders)
        origin = None if file is None else shown_path(file)
        remedy = f'begin its defaults list with "- {EVERY_KEY}", as the shipped config.yaml does'
        raise ConfigError(
            Problem(f"{request.config_name}.yaml does not build on {EVERY_KEY}", origin=origin, remedy=remedy)
        )


def file_folders(hydra_node: Any) -> list[Path]:
    """The folders in which a composition looked for files, the strongest first (`hydra.searchpath` included)."""
    return [Path(source.path) for source in hydra_node.runtime.config_sources if source.schema == "file"]


def make_run(cfg: DictConfig, choices: Mapping[str, Any], origins: Mapping[str, str], judge: Judge) -> RunSpec:
    """A composed configuration to a RunSpec. Raises ConfigError with everything that is wrong with its values."""
    values, problems = resolve(cfg, origins)
    problems += judge_values(values, origins)
    if problems:
        raise ConfigError(*problems)
    settled = settle(values)
    spec = make_spec(settled, choices, {key: origin for key, origin in origins.items() if _is_set(settled, key)})
    refused = [*judge(spec), *judge_contradictions(spec), *judge_unbuilt(spec)]
    if refused:
        raise ConfigError(*refused)
    return spec


def _is_set(values: Mapping[str, Any], key: str) -> bool:
    """Whether a value stands at this key: no null, and no section whose keys have origins of their own."""
    if "properties" in known_keys().get(key, {}):
        return False
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value is not None
