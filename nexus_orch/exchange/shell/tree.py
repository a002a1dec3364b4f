"""The parts that a shell script is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """Characters that stand for themselves."""

    text: str
    is_quoted: bool = False


@dataclass(frozen=True)
class ShellParameter:
    """`$NAME` or `${NAME...}`: `rest` is what follows the name inside the braces."""

    name: str
    rest: str = ""
    is_quoted: bool = False
    is_length: bool = False


@dataclass(frozen=True)
class Output:
    """`$(COMMAND)`: what a command prints."""

    command: str
    is_quoted: bool = False


@dataclass(frozen=True)
class Sum:
    """`$((EXPRESSION))`: whole-number arithmetic."""

    expression: str
    is_quoted: bool = False


Part = Text | ShellParameter | Output | Sum


@dataclass(frozen=True)
class Word:
    """One word before its expansion."""

    parts: tuple[Part, ...]
    line: int = 1

    @property
    def plain(self) -> str | None:
        """The word's characters when nothing in it is quoted or expanded: only such a word is a keyword."""
        if all(isinstance(part, Text) and not part.is_quoted for part in self.parts):
            return "".join(part.text for part in self.parts if isinstance(part, Text))
        return None


@dataclass(frozen=True)
class Assignment:
    """`NAME=VALUE`, or `NAME=(WORDS)` for an array."""

    name: str
    value: Word | tuple[Word, ...]
    adds: bool = False
    index: str | None = None


@dataclass(frozen=True)
class Redirect:
    """A redirection; `body` is the text of a here-document or here-string."""

    operator: str
    target: Word | None
    body: Word | None = None


@dataclass(frozen=True)
class Simple:
    """A command with the assignments before it."""

    assignments: tuple[Assignment, ...]
    words: tuple[Word, ...]
    redirects: Sequence[Redirect]
    line: int


@dataclass(frozen=True)
class Test:
    """`[[ ... ]]`."""

    words: tuple[Word, ...]
    line: int
    text: str


@dataclass(frozen=True)
class Calculation:
    """`(( ... ))`."""

    expression: str
    line: int


@dataclass(frozen=True)
class Pipeline:
    """Commands joined by `|`."""

    commands: tuple[Node, ...]
    is_negated: bool = False


@dataclass(frozen=True)
class AndOr:
    """Pipelines joined by `&&` and `||`; the first joint is empty."""

    items: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class If:
    """The conditions with their bodies; `text` of each condition is for people."""

    branches: tuple[tuple[tuple[Node, ...], tuple[Node, ...], str, int], ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True)
class For:
    """`for NAME in WORDS`; None stands for the arguments of the script."""

    name: str
    words: tuple[Word, ...] | None
    body: tuple[Node, ...]
    line: int
    text: str


@dataclass(frozen=True)
class Loop:
    """`while`, `until` and the `for` with a counter."""

    condition: tuple[Node, ...]
    body: tuple[Node, ...]
    line: int
    text: str
    header: str | None = None
    """The three expressions of `for ((...))`."""


@dataclass(frozen=True)
class Case:
    """`case WORD in PATTERNS) BODY ;; ... esac`."""

    subject: Word
    clauses: tuple[tuple[tuple[Word, ...], tuple[Node, ...]], ...]
    line: int
    text: str


@dataclass(frozen=True)
class Function:
    """The definition of a function."""

    name: str
    body: Node
    line: int


@dataclass(frozen=True)
class Group:
    """Commands in braces or parentheses, with the text that is fed to them."""

    body: tuple[Node, ...]
    is_subshell: bool = False
    redirects: Sequence[Redirect] = ()


Node = Simple | Test | Calculation | Pipeline | AndOr | If | For | Loop | Case | Function | Group
