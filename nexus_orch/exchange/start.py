"""What a foreign file says about a start of vLLM, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nexus_orch.errors import ConfigError, Problem

REFERENCE_MARK = "\x01"
_REFERENCE = re.compile("\x01\\{(\\w+)\\}")

Variables = Mapping[str, str]
"""Environment variables; a value that is a reference comes from a place that the file does not show."""


@dataclass(frozen=True)
class Published:
    """A port of a container as its host offers it; `host` is empty for all addresses."""

    port: int
    inside: int
    host: str = ""


@dataclass(frozen=True)
class Container:
    """What surrounds a server that runs in a container. `mounts` pairs folders of the host with those inside."""

    image: str = ""
    mounts: tuple[tuple[str, str], ...] = ()
    ports: tuple[Published, ...] = ()
    is_shared_network: bool = False
    """The container listens on the host's own addresses."""

    @property
    def is_vllm(self) -> bool:
        """Whether the image starts a vLLM server by itself, by its name."""
        return "vllm" in self.image.lower()


@dataclass(frozen=True)
class Start:
    """One start of the vLLM server: what its parser gets (`argv`, without the launcher) and its environment."""

    argv: tuple[str, ...]
    env: Variables = field(default_factory=dict)
    place: str = "the command"
    container: Container | None = None
    release: str | None = None
    """The release that the file itself names, beside the image."""
    config: Mapping[str, Any] | None = None
    """The content of the file that --config names, which is no part of `argv`: releases read it in their own ways."""
    notes: tuple[str, ...] = ()
    """What stands around the start and is not carried over."""

    def with_notes(self, *notes: str) -> Start:
        return replace(self, notes=(*self.notes, *notes))


NoteKind = Literal["secret", "no effect", "left out", "changed", "passed on", "open", "release", "plan"]


@dataclass(frozen=True)
class Note:
    """One sentence of the report of an import, and what kind of thing it tells."""

    kind: NoteKind
    text: str


def make_reference(name: str) -> str:
    """Stands for the value of a variable that is not known; text of a file cannot look like it."""
    return f"{REFERENCE_MARK}{{{name}}}"


def references(text: str) -> list[str]:
    """The names of the variables in a text whose values are not known."""
    return _REFERENCE.findall(text)


def shown(text: str) -> str:
    """The text for people, with references as `$NAME`."""
    return _REFERENCE.sub(r"$\1", text)


def reference_of(text: str) -> str | None:
    """The variable that a text consists of, None when it is more or less than that."""
    match = _REFERENCE.fullmatch(text)
    return match[1] if match else None


def make_no_value(name: str) -> Problem:
    """The problem of a variable that decides something and whose value is not known."""
    return Problem(f"the value of ${name} is not in the file", remedy=f"write {name}=... above the command")


def broken(what: str, remedy: str) -> ConfigError:
    """The error of a source that cannot be read as what it seems to be."""
    return ConfigError(Problem(what, remedy=remedy))
