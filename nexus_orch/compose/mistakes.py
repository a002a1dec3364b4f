"""What Hydra and YAML raise for a user's mistake, as problems with file, line and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nexus_orch import shipped
from nexus_orch.compose.origins import find_file
from nexus_orch.compose.search_path import SearchPath, shown_path
from nexus_orch.errors import ConfigError, Problem

HYDRA_MISTAKES = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ValueError,
    TypeError,
    ImportError,
    RuntimeError,
    OSError,
)
"""What Hydra 1.3 raises while it reads files, overrides, sweepers and launchers (it has no common base class)."""


class BrokenFileError(ConfigError):
    """A profile cannot be read as YAML."""


def make_config_error(error: Exception, path: SearchPath) -> ConfigError:
    """The ConfigError of a mistake that Hydra met; for unreadable YAML, of all such files of the search path."""
    if isinstance(error, yaml.YAMLError | UnicodeDecodeError | PermissionError):
        problems = {problem.origin: problem for problem in (*_find_broken_files(path), *_yaml_problems(error))}
        if problems:
            return BrokenFileError(*problems.values())
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if cause is not None:
        lines[0] += f": {str(cause).splitlines()[0]}"
    return ConfigError(_make_problem(lines, path))


def _make_problem(lines: list[str], path: SearchPath) -> Problem:
    """Hydra writes the mistake first ("In 'profile/mine': Could not find 'model/x'"), then advice and options."""
    place = re.match(r"In '(?P<config>[^']+)': ", lines[0])
    file = None if place is None else find_file(place["config"], path.folders)
    message = lines[0] if place is None else lines[0][place.end() :]
    quoted = re.search(r"'([^']+)'", message)
    origin = None if file is None else _origin_in(file, quoted[1] if quoted else "")
    return Problem(message, origin=origin, remedy=_render_remedy(message, lines[1:]))


def _render_remedy(message: str, advice: list[str]) -> str:
    options = [line for line in advice if " " not in line]
    wanted = re.search(r"Could not find '(?:[^']*/)?([^'/]+)'", message)
    if wanted and options:
        nearest = difflib.get_close_matches(wanted[1], options, n=1, cutoff=0.5)
        return (f"did you mean {nearest[0]}? " if nearest else "") + f"options: {', '.join(options)}"
    return " ".join(advice) or "`nexus-run --info defaults-tree` shows what builds on what"


def _origin_in(file: Path, wanted: str) -> str:
    """The file with the first line that names the last part of `wanted`, such as the option of "model/qwen"."""
    word = re.escape(wanted.rpartition("/")[2])
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if word and re.search(rf"(?<![\w-]){word}(?![\w-])", line.partition("#")[0]):
            return f"{shown_path(file)}:{number}"
    return shown_path(file)


def _find_broken_files(path: SearchPath) -> Iterator[Problem]:
    """One problem for each file of the user's and plugins' folders that is no readable YAML, chosen or not."""
    for folder in path.folders:
        if folder != shipped.conf_dir():
            for file in sorted(folder.rglob("*.yaml")):
                yield from _judge_file(file)


def _judge_file(file: Path) -> Iterator[Problem]:
    try:
        yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        yield _make_broken(file, error)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield Problem(f"no readable YAML: {error}", origin=shown_path(file), remedy="save the file as UTF-8 text")
    except OSError as error:
        yield Problem(f"cannot read a profile: {error.strerror}", origin=shown_path(file), remedy="make it readable")


def _yaml_problems(error: Exception) -> Iterator[Problem]:
    """The error itself, when it names its file: OmegaConf's loader refuses more than plain YAML (double keys)."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        yield _make_broken(Path(error.problem_mark.name), error)


def _make_broken(file: Path, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    origin = shown_path(file) if mark is None else f"{shown_path(file)}:{mark.line + 1}"
    what = " ".join(part for part in (error.context, error.problem) if part)
    return Problem(f"broken YAML: {what}", origin=origin, remedy="mend the file; a space follows each colon, no tabs")
