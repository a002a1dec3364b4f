"""The user's own project: a folder with `conf/` (and optionally `plugins/`), chosen by --project or NEXUS_PROJECT."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nexus_orch.errors import ConfigError, Problem

PROJECT_VARIABLE = "NEXUS_PROJECT"
_OPTION = "--project"


def split_project(argv: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take `--project DIR` (or `--project=DIR`) out of a command line; the last one wins.

    Returns the folder as it was written, not checked yet, and the other arguments. Raises ConfigError when the option
    stands without a folder.
    """
    project: str | None = None
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument == _OPTION:
            project = next(arguments, "")
        elif argument.startswith(f"{_OPTION}="):
            project = argument.removeprefix(f"{_OPTION}=")
        else:
            rest.append(argument)
    if project == "":
        raise ConfigError(Problem(f"{_OPTION} needs a folder", remedy=f"write {_OPTION} DIR, where DIR holds conf/"))
    return (None if project is None else Path(project)), rest


def find_project(explicit: Path | None = None) -> Path | None:
    """The user's project folder as an absolute path: `explicit`, else NEXUS_PROJECT, else None.

    Raises ConfigError when the folder is missing, unreadable, or holds neither `conf/` nor `plugins/`.
    """
    if explicit is not None:
        return _checked(explicit, _OPTION, "command line")
    named = os.environ.get(PROJECT_VARIABLE)
    return _checked(Path(named), PROJECT_VARIABLE, "environment") if named else None


def _checked(project: Path, key: str, origin: str) -> Path:
    folder = project.expanduser().absolute()
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        remedy = f"name a folder that holds conf/, or leave {key} away"
        raise ConfigError(
            Problem(f"cannot read the project folder: {error.strerror}", key, project, origin, remedy)
        ) from error
    conf = folder / "conf"
    try:
        next(conf.iterdir(), None)
    except FileNotFoundError as error:
        if (folder / "plugins").is_dir():
            return folder.resolve()
        remedy = f"make {conf} with groups of your own, for example conf/hardware/mine.yaml"
        raise ConfigError(Problem("the project has no conf folder", key, project, origin, remedy)) from error
    except OSError as error:
        remedy = "make conf a folder that you may read"
        raise ConfigError(
            Problem(f"the project's conf folder cannot be read: {error.strerror}", key, project, origin, remedy)
        ) from error
    return folder.resolve()


def check_conf_dirs(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The profile folders of plugins as absolute paths. Raises ConfigError for all that are no readable folders."""
    problems = [
        Problem(
            "a plugin offers a profile folder that is not there",
            key="nexus_conf_dirs",
            value=folder,
            remedy="mend or remove the plugin",
        )
        for folder in folders
        if not folder.is_dir()
    ]
    if problems:
        raise ConfigError(*problems)
    return tuple(folder.resolve() for folder in folders)
