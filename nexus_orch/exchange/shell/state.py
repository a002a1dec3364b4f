"""What a script has set when a command of it runs, and by which conditions it came there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from nexus_orch.exchange.shell.tree import Node
from nexus_orch.exchange.start import Start, read_nothing

Value = str | list[str]
ReadFile = Callable[[str], str | None]
"""The text of a file beside the script, None when there is none."""


@dataclass(frozen=True)
class Decision:
    """A condition of the script, and how it was taken. `unset` are the variables without a value that it looks at;
    without any, nothing in the file tells the outcome."""

    text: str
    line: int
    holds: bool
    unset: frozenset[str] = frozenset()
    is_against: bool = False
    """The outcome is not the one that the variables give as they stand."""


@dataclass(frozen=True)
class Call:
    """A command that the script runs: its words, the environment, where it stands, and the text that it is fed."""

    words: tuple[str, ...]
    env: dict[str, str]
    line: int
    place: str
    stdin: str | None = None
    release: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass
class State:
    """One way through the script."""

    variables: dict[str, Value] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    positionals: list[str] | None = None
    """The arguments; None for a script of whose caller nothing is known."""
    origins: dict[str, frozenset[str]] = field(default_factory=dict)
    """What a variable's value would have come from, had it been set: MODE of `MODE=${1:-small}` comes from 1."""
    opens_empty: bool = False
    """A variable that is set to nothing counts as one that is to be filled in."""
    functions: dict[str, Node] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    reads: ReadFile = read_nothing
    found: tuple[Start, ...] = ()
    release: str | None = None
    decisions: tuple[Decision, ...] = ()
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    exports_all: bool = False
    is_over: bool = False
    is_left: str = ""
    """`return`, `break` or `continue` that ends what it stands in."""
    holds: bool | None = True
    """Whether the last command succeeded; None when that is not known."""
    asks: bool = False
    """The last command is one that people run for its answer."""
    unset: frozenset[str] = frozenset()

    def copy(self) -> State:
        return replace(
            self,
            variables={
                name: list(value) if isinstance(value, list) else value for name, value in self.variables.items()
            },
            exported=set(self.exported),
            positionals=None if self.positionals is None else list(self.positionals),
            origins=dict(self.origins),
            functions=dict(self.functions),
            files=dict(self.files),
        )

    @property
    def runs_on(self) -> bool:
        return not self.is_over and not self.is_left

    def says(self, holds: bool | None, *, asks: bool = False, unset: frozenset[str] = frozenset()) -> State:
        """The state after a command with this answer."""
        self.holds, self.asks, self.unset = holds, asks, unset
        return self

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes = (*self.notes, text)

    def key(self) -> tuple[object, ...]:
        """States with equal keys go on alike."""
        return (
            sorted((name, repr(value)) for name, value in self.variables.items()),
            sorted(self.exported),
            self.positionals,
            sorted(self.functions),
            sorted(self.files.items()),
            self.found,
            self.release,
            self.is_over,
            self.is_left,
            self.holds,
            self.exports_all,
        )

    @property
    def cost(self) -> int:
        """How many variables would have to be set otherwise for this way."""
        return sum(decision.is_against for decision in self.decisions)


def merge(states: Sequence[State], most: int) -> list[State]:
    """The states without those that equal another one: a condition that changes nothing is forgotten. At most `most`,
    those first that need the fewest variables set otherwise."""
    merged: list[tuple[tuple[object, ...], State]] = []
    for state in states:
        key = state.key()
        same = next((other for known, other in merged if known == key), None)
        if same is None:
            merged.append((key, state))
            continue
        cheap = min(same, state, key=lambda one: one.cost)
        others = {
            (decision.text, decision.line, decision.holds) for decision in (state if cheap is same else same).decisions
        }
        same.decisions = tuple(
            decision for decision in cheap.decisions if (decision.text, decision.line, decision.holds) in others
        )
    kept = sorted((state for _, state in merged), key=lambda one: one.cost)
    return kept[:most]
