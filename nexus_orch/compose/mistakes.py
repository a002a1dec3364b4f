"""What Hydra and YAML raise for a user's mistake, as problems with key, value, file, line and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nexus_orch import shipped
from nexus_orch.bounded_yaml import check_yaml
from nexus_orch.compose.origins import COMMAND_LINE, find_file
from nexus_orch.compose.search_path import SearchPath, shown_path
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.suggest import suggest

HYDRA_MISTAKES = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ValueError,
    TypeError,
    ImportError,
    RuntimeError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""What Hydra 1.3 raises while it reads files, overrides, sweepers and launchers (there is no common base class)."""

_REMEDY = "`nexus-run --help` shows groups and keys, `nexus-run --info defaults-tree` what builds on what"


class BrokenFileError(ConfigError):
    """A profile cannot be read as YAML."""


def make_config_error(error: Exception, path: SearchPath, overrides: Sequence[str]) -> ConfigError:
    """The ConfigError of a mistake that Hydra met; for unreadable YAML, of all such files of the search path."""
    if isinstance(error, yaml.YAMLError | UnicodeDecodeError | PermissionError):
        problems = {problem.origin: problem for problem in (*_find_broken_files(path), *_judge_yaml_error(error))}
        if problems:
            return BrokenFileError(*problems.values())
    message, *advice = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error.__cause__, OmegaConfBaseException) and message.startswith("Error merging"):
        message += f": {str(error.__cause__).splitlines()[0]}"
    return ConfigError(_make_problem(message, advice, path, overrides))


def _make_problem(message: str, advice: list[str], path: SearchPath, overrides: Sequence[str]) -> Problem:
    """Hydra writes the mistake first ("In 'profile/mine': Could not find 'model/x'"), then its advice.

    The texts are those of Hydra 1.3.8: _internal/defaults_list.py and _internal/config_loader_impl.py.
    """
    place = re.search(r"\b[Ii]n '([^']+)'", message)
    file = None if place is None else find_file(place[1], path.folders)
    problem = Problem(re.sub(r"^In '[^']+': ", "", message).rstrip("."), remedy=" ".join(advice) or _REMEDY)
    if missing := re.search(r"(?:find|load|primary config) '(?:(.*)/)?([^/']+)'", message):
        problem = _make_missing(problem, missing[1] or "", missing[2], path)
    elif "raised while composing config" in message:
        remedy = f"a profile holds KEY: VALUE lines, of the kinds that the other profiles have; {' '.join(advice[:1])}"
        problem = replace(problem, message="a profile cannot be merged with the others", remedy=remedy)
    elif named := re.search(r"(?:override|already at|Multiple values for) '?([\w./@]+[\w@])", message):
        problem = _make_named(problem, named[1], path, overrides)
    return problem if file is None else replace(problem, origin=_find_origin(file, problem, path))


def _make_missing(problem: Problem, group: str, option: str, path: SearchPath) -> Problem:
    options = sorted({file.stem for folder in path.folders for file in (folder / group).glob("*.yaml")})
    remedy = f"{suggest(option, options)} options: {', '.join(options) or 'none'}".lstrip()
    return replace(problem, key=group or "--config-name", value=option, origin=COMMAND_LINE, remedy=remedy)


def _make_named(problem: Problem, name: str, path: SearchPath, overrides: Sequence[str]) -> Problem:
    """The problem of a key or group that an override, or a defaults list's `override`, names."""
    written = next((text for text in overrides if text.lstrip("+~").partition("=")[0] == name), None)
    if written is None:
        groups = [folder.name for parent in path.folders for folder in parent.iterdir() if folder.is_dir()]
        return replace(problem, key=name, remedy=suggest(name, groups) or problem.remedy)
    bare = written.lstrip("+~")
    problem = replace(problem, key=name, value=bare.partition("=")[2], origin=COMMAND_LINE)
    if "already at" in problem.message or problem.message.startswith("Multiple values"):
        return replace(problem, message=f"{name} is there already", remedy=f"leave the + away: {bare}")
    if "To append" in str(problem.remedy):
        return replace(problem, message=f"{name} is not there yet", remedy=f"write +{bare}")
    return problem


def _find_origin(file: Path, problem: Problem, path: SearchPath) -> str:
    """The line of `file` that names the wrong thing, else that of a user's file: Hydra blames the file where a group
    is listed, also when an `override` elsewhere chose the option."""
    word = re.compile(rf"(?<![\w-]){re.escape(str(problem.value or problem.key))}(?![\w-])")
    for candidate in (file, *_find_user_files(path)):
        for number, line in enumerate(candidate.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if word.search(line.partition("#")[0]):
                return f"{shown_path(candidate)}:{number}"
    return shown_path(file)


def _find_user_files(path: SearchPath) -> Iterator[Path]:
    for folder in path.folders:
        if folder != shipped.conf_dir():
            yield from sorted(folder.rglob("*.yaml"))


def _find_broken_files(path: SearchPath) -> Iterator[Problem]:
    """One problem for each file of the user's and plugins' folders that is no readable YAML, chosen or not."""
    for file in _find_user_files(path):
        yield from _judge_file(file)


def _judge_file(file: Path) -> Iterator[Problem]:
    try:
        text = file.read_text(encoding="utf-8")
        yaml.compose(text, Loader=yaml.SafeLoader)
        check_yaml(text, str(file))
    except yaml.MarkedYAMLError as error:
        yield _make_broken(file, error)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        yield Problem(f"no readable YAML: {reason}", origin=shown_path(file), remedy="save the file as UTF-8 text")
    except OSError as error:
        yield Problem(f"cannot read a profile: {error.strerror}", origin=shown_path(file), remedy="make it readable")


def _judge_yaml_error(error: Exception) -> Iterator[Problem]:
    """The error itself, when it names its file: OmegaConf's loader refuses more than plain YAML does (double keys)."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        yield _make_broken(Path(error.problem_mark.name), error)


def _make_broken(file: Path, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    origin = shown_path(file) if mark is None else f"{shown_path(file)}:{mark.line + 1}"
    what = " ".join(part for part in (error.context, error.problem) if part)
    return Problem(f"broken YAML: {what}", origin=origin, remedy="mend the file; a space follows each colon, no tabs")
