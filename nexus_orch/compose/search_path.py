"""Where profiles are looked for: the user's project, then plugins, then what ships. The first file of a name wins.

Hydra's own `hydra.searchpath` only appends, so a file of the same name could never replace a shipped one (Hydra #2758).
A `SearchPathPlugin` may prepend; ours is registered at run time and does nothing outside `searching`, so that other
Hydra applications in the same process keep their own search path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from nexus_orch import shipped
from nexus_orch.compose.project import check_conf_dirs, find_project
from nexus_orch.errors import ConfigError, Problem


@dataclass(frozen=True)
class SearchPath:
    """Folders of profiles. `overlays` win over `base`, and an earlier overlay over a later one."""

    base: Path
    overlays: tuple[Path, ...] = ()
    extra: Path | None = None
    """The folder of Hydra's --config-dir, asked last."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders, the strongest first."""
        return (*self.overlays, self.base, *([] if self.extra is None else [self.extra]))


def find_search_path(project: Path | None, plugin_conf_dirs: Sequence[Path], extra: Path | None = None) -> SearchPath:
    """The search path of one run. Raises ConfigError when the project or another of its folders cannot be read."""
    if extra is not None and not extra.is_dir():
        raise ConfigError(Problem("there is no such folder", "--config-dir", extra, "command line", "name a folder"))
    own = find_project(project)
    plugins = check_conf_dirs(plugin_conf_dirs)
    overlays = plugins if own is None or not (own / "conf").is_dir() else (own / "conf", *plugins)
    return SearchPath(shipped.conf_dir(), overlays, None if extra is None else extra.resolve())


def shown_path(file: Path) -> str:
    """A profile's path for people: `conf/...` for shipped ones, relative inside the current folder, else absolute."""
    if file.is_relative_to(shipped.conf_dir()):
        return file.relative_to(shipped.shipped_dir()).as_posix()
    current = Path.cwd()
    return file.relative_to(current).as_posix() if file.is_relative_to(current) else str(file)


_active: ContextVar[SearchPath | None] = ContextVar("nexus_search_path", default=None)


class NexusSearchPath(SearchPathPlugin):
    """Puts the folders of the search path in force before Hydra's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra each time that a search path is made."""
        active = _active.get()
        if active is not None:
            for folder in reversed(active.overlays):
                search_path.prepend("nexus_orch", str(folder))


@contextmanager
def searching(path: SearchPath) -> Iterator[None]:
    """While this lasts, every search path that Hydra makes in this context begins with the overlays of `path`."""
    Plugins.instance().register(NexusSearchPath)
    token = _active.set(path)
    try:
        yield
    finally:
        _active.reset(token)
