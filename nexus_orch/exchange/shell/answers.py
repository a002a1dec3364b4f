"""What conditions and calculations of a script say in a state."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexus_orch.exchange.shell.conditions import judge_test
from nexus_orch.exchange.shell.expand import Expander
from nexus_orch.exchange.shell.output import print_of
from nexus_orch.exchange.shell.state import State
from nexus_orch.exchange.shell.sums import UnknownError, calculate
from nexus_orch.exchange.shell.tree import Word
from nexus_orch.exchange.start import has_reference

_CHANGE = re.compile(r"\s*([A-Za-z_]\w*)\s*(\+\+|--|(?:[-+*]?=)(?!=)\s*(.*))\s*")


class _Files:
    """The files that a script has written, and those beside it."""

    def __init__(self, state: State) -> None:
        self.state = state

    def __contains__(self, path: object) -> bool:
        is_path = isinstance(path, str) and bool(path) and not has_reference(path)
        return is_path and (path in self.state.files or self.state.reads(str(path)) is not None)


def judge(words: Sequence[Word], state: State, *, is_double: bool) -> State:
    """The state with the answer of `[ ... ]` or `[[ ... ]]`."""
    expander = Expander(state, print_of, in_condition=True)
    texts = [expander.text(word) for word in words] if is_double else _fields(expander, words)
    holds = judge_test(texts, _Files(state), is_double=is_double)
    return state.says(holds, asks=True, unset=frozenset(expander.unset))


def _fields(expander: Expander, words: Sequence[Word]) -> list[str]:
    """A word without a value counts as an empty one: what the shell makes of `[ -n $X ]` surprises its writers."""
    return [text for word in words for text in expander.fields(word) or [""]]


def compute(expression: str, state: State, unset: set[str] | None = None) -> int | None:
    """The value of an expression, None when it is not known; `i++`, `i--`, `i+=N` and `i=N` change the variable."""
    change = _CHANGE.fullmatch(expression)
    expander = Expander(state, print_of, in_condition=True)
    try:
        if change is None:
            value = calculate(expression, expander.number)
        else:
            name, how = change[1], change[2]
            old = 0 if how.startswith("=") else calculate(name, expander.number)
            by = 1 if how in ("++", "--") else calculate(change[3], expander.number)
            value = by if how[0] == "=" else old * by if how[0] == "*" else old + (by if how[0] == "+" else -by)
            state.variables[name] = str(value)
    except UnknownError:
        return None
    finally:
        if unset is not None:
            unset |= expander.unset
    return value
