"""Words to text: variables with all that braces do to them, arithmetic, and the few commands whose output is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from nexus_orch.exchange.shell.lexer import parse_value
from nexus_orch.exchange.shell.state import State, Value
from nexus_orch.exchange.shell.sums import UnknownError, calculate
from nexus_orch.exchange.shell.tree import Output, Part, ShellParameter, Sum, Text, Word
from nexus_orch.exchange.start import REFERENCE, REFERENCE_MARK, has_reference, make_reference
from nexus_orch.types import is_secret_name

_INDEX = re.compile(r"\[([^\]]*)\]")
_WHEN = re.compile(r"(:?[-=?+])(.*)", re.DOTALL)
_CUT = re.compile(r"(##?|%%?)(.*)", re.DOTALL)
_CHANGE = re.compile(r"/([/#%]?)((?:\\.|[^/\\])*)(?:/(.*))?", re.DOTALL)
_SLICE = re.compile(r":\s*(-?\s*\d+)\s*(?::\s*(\d+))?")
_RANGE = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)")
_CHOICES = re.compile(r"([^{}]*)\{([^{}\s]*,[^{}\s]*)\}([^{}]*)")
_FIELD = re.compile(rf"(?:{REFERENCE.pattern}|[^\s{REFERENCE_MARK}])+")
"""What the shell sees as a word of its own in a value; what is not known is one word."""
_LONGEST_RANGE = 64
_LONGEST_VALUE = 32_768
_MOST_WORDS = 4_000
"""Of one command: far more than any server takes."""
CALLER = make_reference("@")
"""Stands for the arguments of a script of whose caller nothing is known."""

Runs = Callable[[str, State], str | None]
"""What a command prints, None when that is not known."""


class Expander:
    """Expands words in a state. Variables without a value become references, or, in a condition, nothing; `unset`
    collects them."""

    def __init__(
        self, state: State, runs: Runs, *, in_condition: bool = False, sees_defaults: bool = False, depth: int = 0
    ) -> None:
        self.state = state
        self.runs = runs
        self.in_condition = in_condition
        self.sees_defaults = sees_defaults
        """A value that is a default counts as not set."""
        self.unset: set[str] = set()
        self.depth = depth

    def text(self, word: Word) -> str:
        """The word as one text."""
        return "".join(" ".join(self._values(part)) for part in word.parts)[:_LONGEST_VALUE]

    def fields(self, word: Word) -> list[str]:
        """The word as the shell passes it on: without quotes a value falls into its words."""
        plain = word.plain
        if plain is not None and "{" in plain:
            return _braces(plain)
        found: list[str] = []
        current: str | None = None
        is_list = False
        for part in word.parts:
            values = self._values(part)
            if isinstance(part, Text):
                current = (current or "") + part.text
                continue
            if not part.is_quoted:
                text = " ".join(values)
                values = [match[0] for match in _FIELD.finditer(text)]
                if text[:1].isspace() and current is not None:
                    found.append(current)
                    current = None
            elif not values:
                is_list = True
                continue
            for index, value in enumerate(values):
                if index:
                    found.append(current or "")
                    current = None
                current = (current or "") + value
        is_nothing = current is None or (is_list and not current)  # "${A[@]}" of an empty list is no word at all
        return found if is_nothing or current is None else [*found, current]

    def _values(self, part: Part) -> list[str]:
        if isinstance(part, Text):
            return [part.text]
        if isinstance(part, Output):
            said = self.runs(part.command, self.state)
            return [make_reference(f"$({part.command})") if said is None else said]
        if isinstance(part, Sum):
            return [self._sum(part)]
        return self._parameter(part)

    def _sum(self, part: Sum) -> str:
        try:
            return str(calculate(part.expression, self.number))
        except UnknownError:
            return make_reference(f"$(({part.expression}))")

    def number(self, name: str) -> int:
        value = self._look_up(name)
        if value is None:
            self.unset.add(name)
            return 0
        text = value[0] if isinstance(value, list) and value else value
        if not isinstance(text, str) or re.fullmatch(r"\s*-?\d{1,18}\s*", text) is None:
            raise UnknownError(name)
        return int(text)

    def _look_up(self, name: str) -> Value | None:
        state = self.state
        if name in ("@", "*"):
            return state.positionals
        if name == "#":
            if state.positionals is None:
                self.unset.add("#")
            return str(len(state.positionals or ()))
        if name == "?":
            return "0"
        if name.isdecimal() and name != "0":
            given = state.positionals or []
            number = int(name[:6])
            return given[number - 1] if number <= len(given) else None
        return state.variables.get(name)

    def _parameter(self, part: ShellParameter) -> list[str]:
        value, rest = self._look_up(part.name), part.rest
        if self.in_condition and part.name in self.state.origins and (value == "" or self.sees_defaults):
            self.unset |= {part.name, *self.state.origins[part.name]}
        wants_all = part.name in ("@", "*")
        index = _INDEX.match(rest)
        if index is not None:
            rest = rest[index.end() :]
            wants_all = index[1] in ("@", "*")
            value = value if wants_all else self._item(value, index[1])
        elif isinstance(value, list) and not wants_all:
            value = value[0] if value else None
        if part.is_length:
            return [str(len(value or ""))]
        if wants_all and isinstance(value, str):
            value = [value]
        when = _WHEN.fullmatch(rest)
        if when is not None:
            return self._when(part, value, when[1], when[2])
        if value is None:
            return self._without_value(part, is_list=wants_all)
        values = value if isinstance(value, list) else [value]
        if rest:
            slice_ = _SLICE.fullmatch(rest)
            if wants_all and slice_ is not None:
                first = max(int(slice_[1].replace(" ", "")[:9]) - (part.name in ("@", "*")), 0)
                return values[first:][: int(slice_[2][:9])] if slice_[2] else values[first:]
            values = [self._changed(text, rest) for text in values]
        return values

    def _item(self, value: Value | None, index: str) -> str | None:
        if isinstance(value, str):
            return value if index == "0" else None
        try:
            number = calculate(index, self.number)
            return (value or [])[number]
        except (UnknownError, IndexError):
            return None

    def _without_value(self, part: ShellParameter, *, is_list: bool) -> list[str]:
        self.unset.add(part.name)
        if self.in_condition:
            return [] if is_list else [""]
        if part.name in ("@", "*"):
            return [CALLER]
        return [] if is_list else [make_reference(part.name)]

    def _when(self, part: ShellParameter, value: Value | None, how: str, rest: str) -> list[str]:
        """`:-`, `:=`, `:?`, `:+` and their forms without a colon."""
        is_given = value is not None and (not how.startswith(":") or (value not in ("", [], [""])))
        if value is None:
            self.unset.add(part.name)
        if how.endswith("+"):
            return self._default(rest, part) if is_given else ([] if part.is_quoted and "@" in rest else [""])
        if is_given and value is not None:
            return value if isinstance(value, list) else [value]
        if how.endswith("?"):
            return [""] if self.in_condition else [make_reference(part.name)]
        if not rest and is_secret_name(part.name) and not self.in_condition:
            return [make_reference(part.name)]  # files pass on a secret that may be unset so
        values = self._default(rest, part)
        if how.endswith("="):
            self.state.variables[part.name] = " ".join(values)
        return values

    def _default(self, rest: str, part: ShellParameter) -> list[str]:
        self.depth += 1
        if self.depth > 40:
            return [make_reference(part.name)]
        word = parse_value(rest, is_quoted=part.is_quoted and '"${' not in rest, depth=self.depth)
        return self.fields(word) if part.is_quoted and "[@]" in rest else [self.text(word)]

    def _changed(self, value: str, rest: str) -> str:
        """Cut and replaced parts, slices and letters in another case; a value that is not known stays unknown."""
        if has_reference(value):
            return value
        cut, change, slice_ = _CUT.fullmatch(rest), _CHANGE.fullmatch(rest), _SLICE.fullmatch(rest)
        if cut is not None:
            return _cut(value, cut[1], self._pattern(cut[2]))
        if slice_ is not None:
            return _sliced(value, int(slice_[1].replace(" ", "")[:9]), slice_[2])
        if change is not None:
            return _replaced(value, change[1], self._pattern(change[2]), self._pattern(change[3] or ""))
        return _CASES[rest](value) if rest in _CASES else value

    def _pattern(self, text: str) -> str:
        return self.text(parse_value(text, is_quoted=False, depth=self.depth + 1))


def expanded(words: Sequence[Word], state: State, runs: Runs) -> list[str]:
    """Words as a command gets them."""
    expander = Expander(state, runs)
    found: list[str] = []
    for word in words:
        found += (text[:_LONGEST_VALUE] for text in expander.fields(word)[:_MOST_WORDS])
    return found[:_MOST_WORDS]


_CASES: Mapping[str, Callable[[str], str]] = {
    "^^": str.upper,
    ",,": str.lower,
    "^": lambda value: value[:1].upper() + value[1:],
    ",": lambda value: value[:1].lower() + value[1:],
}


def _sliced(value: str, first: int, length: str | None) -> str:
    part = value[first:] if first >= 0 or -first <= len(value) else value
    return part[: int(length[:9])] if length else part


def _cut(value: str, how: str, pattern: str) -> str:
    """The value without the shortest or longest part at its beginning or end that fits."""
    lengths = range(len(value) + 1)
    for length in lengths if len(how) == 1 else reversed(lengths):
        part = value[:length] if how[0] == "#" else value[len(value) - length :]
        if fnmatchcase(part, pattern):
            return value[length:] if how[0] == "#" else value[: len(value) - length]
    return value


def _replaced(value: str, how: str, pattern: str, new: str) -> str:
    if any(sign in pattern for sign in "*?["):
        return value
    if how == "#":
        return new + value[len(pattern) :] if value.startswith(pattern) else value
    if how == "%":
        return value[: -len(pattern)] + new if pattern and value.endswith(pattern) else value
    return value.replace(pattern, new, -1 if how == "/" else 1) if pattern else value


def _braces(text: str) -> list[str]:
    """`{0..3}` and `{a,b}` as the words that they stand for."""
    numbers = _RANGE.fullmatch(text)
    if numbers is not None:
        first, last = int(numbers[2][:9]), int(numbers[3][:9])
        step = 1 if last >= first else -1
        if abs(last - first) < _LONGEST_RANGE:
            return [f"{numbers[1]}{number}{numbers[4]}" for number in range(first, last + step, step)]
        return [text]
    choices = _CHOICES.fullmatch(text)
    if choices is not None and ":" not in text:
        return [f"{choices[1]}{choice}{choices[3]}" for choice in choices[2].split(",")]
    return [text]
