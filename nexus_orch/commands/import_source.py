"""What `nexus import` is given: a command behind --, a file or standard input; and overrides beside it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nexus_orch.adapt.config_file import split_config
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.exchange.foreign.containers import outside
from nexus_orch.exchange.foreign.documents import read_yaml
from nexus_orch.exchange.foreign.sources import WHAT_IS_READ, parse_command, parse_text
from nexus_orch.exchange.start import Beside, Start, has_reference, shown
from nexus_orch.suggest import suggest

_OVERRIDE = re.compile(r"\+{0,2}[a-z][a-z0-9_]*(\.\w+)*=.*", re.DOTALL)
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_GROUPS = ("hardware", "model", "memory", "engine", "serve", "workload", "profile")
_LAUNCHERS = re.compile(r"(.*[\\/])?(vllm|python[\d.]*|docker|podman|nerdctl|env|sudo|nohup|exec)|[A-Z_][A-Z0-9_]*=.*")
LARGEST_BYTES = 4 * 1024 * 1024
"""No file with a command in it is larger."""
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class Source:
    """The starts of vLLM that were found, or the settings of VLLM-Nexus-GUI. `name` is for people."""

    name: str
    content: list[Start] | Mapping[str, Any]


@dataclass(frozen=True)
class Overrides:
    """GROUP=NAME, KEY=VALUE and NAME=VALUE of the command line."""

    groups: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """NAME=VALUE: what the file leaves to its environment."""


def split_words(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Our own words, and those of the command: behind `--`, or from the first word on that starts one."""
    rest = list(words)
    if "--" in rest:
        index = rest.index("--")
        return rest[:index], rest[index + 1 :]
    for index, word in enumerate(rest):
        is_command = _LAUNCHERS.fullmatch(word) and (len(rest) > index + 1) and not Path(word).is_file()
        if (
            is_command
            and any(_VARIABLE.fullmatch(later) is None for later in rest[index:])
            and _is_not_a_file_before(rest[:index])
        ):
            return rest[:index], rest[index:]
    return rest, None


def _is_not_a_file_before(words: Sequence[str]) -> bool:
    """A variable behind the name of a file is the file's, not the beginning of a command."""
    return not any(Path(word).is_file() for word in words)


def parse_overrides(words: Sequence[str]) -> tuple[list[str], Overrides]:
    """The files among the words, and the overrides: a name without a dot chooses the option of a group, or gives a
    value to a variable of the file in front of it."""
    import yaml  # noqa: PLC0415 - only here

    from nexus_orch.bounded_yaml import load_yaml  # noqa: PLC0415

    files: list[str] = []
    overrides = Overrides()
    for word in words:
        variable = _VARIABLE.fullmatch(word)
        if variable is not None and files and variable[1] not in _GROUPS and not Path(word).exists():
            overrides.variables[variable[1]] = variable[2]
            continue
        if _OVERRIDE.fullmatch(word) is None or Path(word).exists():
            files.append(word)
            continue
        key, _, text = word.lstrip("+").partition("=")
        if "." not in key:
            overrides.groups[key] = text
            continue
        try:
            value = load_yaml(text)
        except yaml.YAMLError:
            raise ConfigError(Problem("cannot read this override", key, text, "command line")) from None
        overrides.settings[key] = text if key == "engine.version" else value
    return files, overrides


def read_source(files: Sequence[str], command: Sequence[str] | None, told: Mapping[str, str] | None = None) -> Source:
    """The starts in what was given, with the values that were told for its variables. Raises ConfigError when it is
    nothing, several, or cannot be read."""
    if command is not None and files:
        raise ConfigError(Problem(f"both a file ({files[0]}) and a command are given", remedy="name one of them"))
    if len(files) > 1:
        raise ConfigError(Problem(f"{len(files)} files are given: {', '.join(files)}", remedy="name one of them"))
    here = _Folder(Path.cwd())
    if command:
        beside = here.beside(told or {})
        return Source("the command line", [_with_server_file(start, here) for start in parse_command(command, beside)])
    if not files:
        raise ConfigError(Problem("nothing to import", remedy=f"name {WHAT_IS_READ}"))
    if files[0] == "-":
        text = _decode(sys.stdin.buffer.read(LARGEST_BYTES + 1), "standard input")
        return _parse(text, "standard input", here, told or {})
    file = Path(files[0]).expanduser()
    return _parse(_read(file), file.name, _Folder(file.absolute().parent), told or {})


def _parse(text: str, name: str, folder: _Folder, told: Mapping[str, str]) -> Source:
    for variable, value in told.items():
        if variable not in text:
            remedy = suggest(variable, _GROUPS) or f"the groups are {', '.join(_GROUPS)}"
            raise ConfigError(Problem(f"{name} has no variable of this name", variable, value, "command line", remedy))
    content = parse_text(text, name, folder.beside(told))
    if isinstance(content, Mapping):
        return Source(name, content)
    return Source(name, [_with_server_file(start, folder) for start in content])


@dataclass(frozen=True)
class _Folder:
    """The folder of a file: what lies beside it may belong to it."""

    path: Path

    def beside(self, told: Mapping[str, str]) -> Beside:
        """What $HOME and $PWD mean in a file: `~` is the same on every machine, the folder is where the file lies."""
        return Beside({"HOME": "~", "PWD": str(self.path)}, dict(told), self.read)

    def read(self, name: str) -> str | None:
        """The text of a file beside; None when there is none, or none that can be read."""
        if not name or has_reference(name) or "\x00" in name or len(name) > _LONGEST_NAME:
            return None
        try:
            file = self.path / Path(name).expanduser()
            with file.open("rb") as opened:
                data = opened.read(LARGEST_BYTES + 1)
            return data.decode("utf-8-sig") if file.is_file() and len(data) <= LARGEST_BYTES else None
        except (OSError, ValueError, RuntimeError):
            return None


def _read(file: Path) -> str:
    try:
        if file.is_dir():
            raise ConfigError(Problem(f"{file} is a folder", remedy="name the file in it"))
        with file.open("rb") as opened:
            return _decode(opened.read(LARGEST_BYTES + 1), str(file))
    except FileNotFoundError:
        remedy = "a command is given behind two dashes: nexus import -- vllm serve MODEL ..."
        raise ConfigError(Problem(f"there is no file {file}", remedy=remedy)) from None
    except OSError as error:
        raise ConfigError(Problem(f"cannot read {file}: {error.strerror}", remedy="make it readable")) from error


def _decode(data: bytes, name: str) -> str:
    remedy = f"name {WHAT_IS_READ}"
    if len(data) > LARGEST_BYTES:
        raise ConfigError(Problem(f"{name} is larger than {LARGEST_BYTES // 1024**2} MiB", remedy=remedy))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(Problem(f"{name} is no text file", remedy=remedy)) from None


def _with_server_file(start: Start, folder: _Folder) -> Start:
    """The start with the content of the file that its --config names."""
    name, argv = split_config(start.argv)
    if name is None:
        return start
    documents = read_yaml(_server_file_text(name, start, folder), shown(name))
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ConfigError(Problem(f"{name}, which --config names, is no YAML mapping", remedy="mend the file"))
    return replace(start, argv=argv, config=documents[0])


def _server_file_text(name: str, start: Start, folder: _Folder) -> str:
    """The text of the file: one that the source writes itself, or one beside it. Raises ConfigError."""
    if name in start.files:
        return start.files[name]
    if has_reference(name):
        raise ConfigError(
            Problem(f"the file that --config names ({shown(name)}) is not known", remedy="write its name")
        )
    there = outside(name, start.container, str(folder.path))
    if start.container is not None and there == name and folder.read(name) is None:
        problem = f"{name}, which --config names, lies inside the container: no folder of the host is mounted there"
        raise ConfigError(Problem(problem, remedy="put the file beside this one and write its name"))
    return _read(folder.path / Path(there).expanduser())
