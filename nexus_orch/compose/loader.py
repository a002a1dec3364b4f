"""Hydra's config loader over our search path: the same composition as `@hydra.main`, without its global state."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra.version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.utils import setup_globals
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from nexus_orch.bounded_yaml import check_yaml
from nexus_orch.compose.origins import find_file
from nexus_orch.compose.search_path import SearchPath, searching

VERSION_BASE = "1.3"
"""The Hydra release whose behaviour we ask for."""

PRIMARY = "config"
"""Name of the file where a composition starts."""

EVERY_KEY = "every_key"
"""Name of the file that holds each key with its default; every primary file begins with it."""

_global_state = threading.RLock()
"""Held while Hydra's global state is ours, so that threads (of the dashboard) can compose at the same time."""


class _BoundedRepository(ConfigRepository):
    """The files of the search path; one whose anchors multiply is refused before it is read as a tree."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path=config_path, object_type=ObjectType.CONFIG)
        if source is not None and source.scheme() == "file":
            file = find_file(config_path, [Path(source.path)])
            if file is not None:
                check_yaml(file.read_text(encoding="utf-8"), str(file))
        return super().load_config(config_path)


class NexusLoader(ConfigLoaderImpl):
    """Hydra's loader, which also keeps the files of its last composition: computing them anew costs half as much again
    as the composition itself."""

    composed: Sequence[ResultDefault] = ()

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        self.config_search_path = config_search_path
        self.repository = _BoundedRepository(config_search_path=config_search_path)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.composed = defaults
        return super()._compose_config_from_defaults_list(defaults=defaults, repo=repo)

    def searched_repository(self, config_name: str, overrides: list[str]) -> IConfigRepository:
        """All files that a composition of this primary file finds, `hydra.searchpath` included.

        `get_group_options` makes it anew, reading the primary file, each time that it is called.
        """
        _, repository = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        return repository


@contextmanager
def opened_loader(path: SearchPath) -> Iterator[NexusLoader]:
    """What `hydra.initialize_config_dir` makes, but not global: a Hydra application may compose inside its job.

    Hydra's version base, which is global, is put back at the end.
    """
    with _global_state:
        setup_globals()
        versions = hydra.version.VersionBase.instance()
        before = versions.version_base
        hydra.version.setbase(VERSION_BASE)
        try:
            yield NexusLoader(_make_search_path(path))
        finally:
            versions.version_base = before


def _make_search_path(path: SearchPath) -> ConfigSearchPath:
    with searching(path):
        folders = create_config_search_path(str(path.base))
    if path.extra is not None:
        folders.prepend("command-line", str(path.extra), SearchPathQuery(provider="schema"))
    return folders


@contextmanager
def as_hydra_config(cfg: DictConfig) -> Iterator[None]:
    """While this lasts, ${hydra:...} in a composed configuration finds its own `hydra` node, as inside a job."""
    with _global_state:
        config = HydraConfig.instance()
        before = config.cfg
        config.set_config(cfg)
        try:
            yield
        finally:
            config.cfg = before
