"""What a foreign file says about a start of vLLM, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nexus_orch.errors import ConfigError, Problem

REFERENCE_MARK = "\x01"
_HOW = "\x03"
REFERENCE = re.compile("\x01\\{([^\x01\x02]*)\x02")

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

    shares_files: bool = False
    """Paths inside are those of the host, as with Apptainer."""

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
    assumptions: tuple[str, ...] = ()
    """What was assumed because the file does not tell it."""
    way: str = ""
    """The conditions under which the server is started so, when nothing in the file decides between several ways."""
    is_default: bool = False
    """Of several ways the one that counts unless another is picked."""
    folder: str = ""
    """Where relative paths count from; empty where nobody knows."""
    files: Variables = field(default_factory=dict)
    """Files that the source itself writes before the start, by their paths."""
    cards: int | None = None
    """The count of cards that the file gives to the server on each machine."""
    nodes: int = 1
    """The machines that run the server together."""

    @property
    def is_inside(self) -> bool:
        """Whether the server sees other files than its host."""
        return self.container is not None and not self.container.shares_files

    def with_notes(self, *notes: str) -> Start:
        return replace(self, notes=(*self.notes, *(note for note in notes if note not in self.notes)))

    def with_assumptions(self, *notes: str) -> Start:
        return replace(self, assumptions=(*self.assumptions, *(note for note in notes if note not in self.assumptions)))


def read_nothing(path: str) -> str | None:
    """For sources that have no files beside them."""
    del path
    return None


@dataclass(frozen=True)
class Beside:
    """What is known beside a source: `variables` that hold on every machine (HOME, PWD), those that the user `told`,
    and how a file next to it is read (None when it is not there)."""

    variables: Variables = field(default_factory=dict)
    told: Variables = field(default_factory=dict)
    read: Callable[[str], str | None] = read_nothing

    @property
    def all(self) -> dict[str, str]:
        return {**self.variables, **self.told}


NoteKind = Literal["assumed", "secret", "no effect", "left out", "changed", "passed on", "open", "release", "plan"]


@dataclass(frozen=True)
class Note:
    """One sentence of the report of an import, and what kind of thing it tells."""

    kind: NoteKind
    text: str


def make_reference(name: str, how: str = "") -> str:
    """Stands for the value of a variable that is not known; text of a file cannot look like it. `how` is what gives it
    the value, where that is known only on the machine that runs it."""
    return f"{REFERENCE_MARK}{{{name}{_HOW if how else ''}{how}\x02"


def named(text: str, name: str) -> str:
    """The text; a value that is not known goes by the name of the variable that holds it."""
    is_one = text.startswith(f"{REFERENCE_MARK}{{$") and REFERENCE.fullmatch(text) is not None
    return make_reference(name, shown(text)) if is_one else text


def references(text: str) -> list[str]:
    """The variables in a text whose values are not known, each as its reference holds it."""
    return REFERENCE.findall(text)


def has_reference(text: str) -> bool:
    return REFERENCE_MARK in text


def name_of(reference: str) -> str:
    """The name of the variable, or the command in `$(...)` that was given no name."""
    return reference.partition(_HOW)[0]


def shown(text: str) -> str:
    """The text for people, with references as `$NAME`."""
    return REFERENCE.sub(lambda match: _shown(match[1]), text)


def _shown(reference: str) -> str:
    name = name_of(reference)
    return name if name.startswith("$") else f"${name}"


def reference_of(text: str) -> str | None:
    """The variable that a text consists of, None when it is more or less than that."""
    match = REFERENCE.fullmatch(text)
    return name_of(match[1]) if match else None


def make_no_value(reference: str, option: str = "", unread: Sequence[str] = ()) -> Problem:
    """The problem of a variable that decides something and whose value is not known; `unread` are what it may stand
    in."""
    name, _, how = reference.partition(_HOW)
    where = f"{option}: " if option else ""
    if name.startswith("$"):
        return Problem(
            f"{where}the value of {name} is known only where it runs", remedy=f"write the value in place of {name}"
        )
    if name.isdecimal() or name in ("@", "*"):
        message = f"{where}the value of ${name} is an argument of the script or function"
        return Problem(message, remedy=f"write the value in place of ${name}, or import the command itself")
    if how:
        message = f"{where}the value of ${name} comes from {how}, which is known only where it runs"
        return Problem(message, remedy=f"say it: nexus import FILE {name}=...")
    elsewhere = f" (not carried over: {'; '.join(unread)})" if unread else ""
    return Problem(
        f"{where}the value of ${name} is not in the file{elsewhere}", remedy=f"say it: nexus import FILE {name}=..."
    )


def broken(what: str, remedy: str) -> ConfigError:
    """The error of a source that cannot be read as what it seems to be."""
    return ConfigError(Problem(what, remedy=remedy))
