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
from nexus_orch.exchange.foreign.sources import WHAT_IS_READ, parse_command, parse_text
from nexus_orch.exchange.start import Start

_OVERRIDE = re.compile(r"\+{0,2}[a-z][a-z0-9_]*(\.\w+)*=.*", re.DOTALL)
_LAUNCHERS = re.compile(r"(.*[\\/])?(vllm|python[\d.]*|docker|podman|nerdctl|env|sudo|nohup|exec)|[A-Z_][A-Z0-9_]*=.*")
LARGEST_BYTES = 4 * 1024 * 1024
"""No file with a command in it is larger."""


@dataclass(frozen=True)
class Source:
    """The starts of vLLM that were found, or the settings of VLLM-Nexus-GUI. `name` is for people."""

    name: str
    content: list[Start] | Mapping[str, Any]


@dataclass(frozen=True)
class Overrides:
    """GROUP=NAME and KEY=VALUE of the command line."""

    groups: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Our own words, and those of the command: behind `--`, or from the first word on that starts one."""
    rest = list(words)
    if "--" in rest:
        index = rest.index("--")
        return rest[:index], rest[index + 1 :]
    for index, word in enumerate(rest):
        is_command = _LAUNCHERS.fullmatch(word) and (len(rest) > index + 1) and not Path(word).is_file()
        if is_command:
            return rest[:index], rest[index:]
    return rest, None


def parse_overrides(words: Sequence[str]) -> tuple[list[str], Overrides]:
    """The files among the words, and the overrides: a name without a dot chooses the option of a group."""
    import yaml  # noqa: PLC0415 - only here

    files: list[str] = []
    overrides = Overrides()
    for word in words:
        if _OVERRIDE.fullmatch(word) is None or Path(word).exists():
            files.append(word)
            continue
        key, _, text = word.lstrip("+").partition("=")
        if "." not in key:
            overrides.groups[key] = text
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(Problem("cannot read this override", key, text, "command line")) from None
        overrides.settings[key] = text if key == "engine.version" else value
    return files, overrides


def read_source(files: Sequence[str], command: Sequence[str] | None) -> Source:
    """The starts in what was given. Raises ConfigError when it is nothing, several, or cannot be read."""
    if command is not None and files:
        raise ConfigError(Problem(f"both a file ({files[0]}) and a command are given", remedy="name one of them"))
    if len(files) > 1:
        raise ConfigError(Problem(f"{len(files)} files are given: {', '.join(files)}", remedy="name one of them"))
    if command:
        starts = parse_command(command, _variables(Path.cwd()))
        return Source("the command line", [_with_server_file(start, Path.cwd()) for start in starts])
    if not files:
        raise ConfigError(Problem("nothing to import", remedy=f"name {WHAT_IS_READ}"))
    if files[0] == "-":
        return _parse(_decode(sys.stdin.buffer.read(LARGEST_BYTES + 1), "standard input"), "standard input", Path.cwd())
    file = Path(files[0]).expanduser()
    return _parse(_read(file), file.name, file.absolute().parent)


def _parse(text: str, name: str, folder: Path) -> Source:
    content = parse_text(text, name, _variables(folder))
    if isinstance(content, Mapping):
        return Source(name, content)
    return Source(name, [_with_server_file(start, folder) for start in content])


def _variables(folder: Path) -> dict[str, str]:
    """What $HOME and $PWD mean in a file: `~` is the same on every machine, the folder is where the file lies."""
    return {"HOME": "~", "PWD": str(folder)}


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


def _with_server_file(start: Start, folder: Path) -> Start:
    """The start with the content of the file that its --config names."""
    import yaml  # noqa: PLC0415 - seldom needed

    name, argv = split_config(start.argv)
    if name is None:
        return start
    text = _read(folder / Path(name).expanduser())
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        content = None
    if not isinstance(content, dict):
        raise ConfigError(Problem(f"{name}, which --config names, is no YAML mapping", remedy="mend the file"))
    return replace(start, argv=argv, config=content)
