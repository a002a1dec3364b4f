"""What changes for one run between two engines: two plans and two renderings compared, nothing typed in. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from nexus_orch.adapt.render import shown_launcher
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.adapt.values import describe_type
from nexus_orch.contracts import Rendering
from nexus_orch.plan.release.generations import Generation
from nexus_orch.types import Choice, EngineFacts, Flag, Origin, Plan

Words = tuple[str, ...]
"""One option with its values, or one variable with its value."""


@dataclass(frozen=True)
class Side:
    """The run on one of the engines."""

    engine: EngineFacts
    adapter: str
    plan: Plan
    rendering: Rendering
    generation: Generation
    batching: tuple[int, int] | None = None
    """max_num_batched_tokens and max_num_seqs that the engine takes by itself on this machine."""


@dataclass(frozen=True)
class Said:
    """One setting on one side. `words` is empty when nothing needs to be said; `refused` is why it cannot be had."""

    value: Any
    origin: Origin
    reason: str
    words: Words = ()
    refused: str | None = None


Change = Literal["appears", "vanishes", "refused", "accepted", "value", "renamed", "written", "reason"]
"""`renamed`: another option or variable for the same value; `written`: the same option, said in another form."""


@dataclass(frozen=True)
class SettingChange:
    key: str
    change: Change
    before: Said | None
    after: Said | None


@dataclass(frozen=True)
class OptionChanges:
    """What became of all options of `vllm serve`, whether the run uses them or not. Pairs are before and after."""

    counts: tuple[int, int]
    appeared: tuple[Flag, ...]
    vanished: tuple[Flag, ...]
    changed: tuple[tuple[Flag, Flag], ...]

    @property
    def of_settings(self) -> tuple[tuple[Flag, Flag], ...]:
        """The changed ones that settings are said with."""
        used = {way.flag for ways in SETTINGS.values() for way in ways}
        return tuple(pair for pair in self.changed if pair[1].name in used)


@dataclass(frozen=True)
class Difference:
    """`command` holds the lines of both commands with "-", "+" or " "; `rules` the accounting rules that differ."""

    before: Side
    after: Side
    settings: tuple[SettingChange, ...]
    command: tuple[tuple[str, str], ...]
    rules: tuple[tuple[str, Any, Any], ...]
    options: OptionChanges

    @property
    def is_same_engine(self) -> bool:
        """Both sides are one and the same."""
        return self.before.engine == self.after.engine


def make_difference(before: Side, after: Side) -> Difference:
    """Compare the run on two engines."""
    return Difference(
        before=before,
        after=after,
        settings=tuple(_compare_settings(_read_settings(before), _read_settings(after))),
        command=tuple(_compare_lines(command_lines(before.rendering), command_lines(after.rendering))),
        rules=tuple(_compare_rules(before.generation, after.generation)),
        options=_compare_options(before.engine.flags, after.engine.flags),
    )


def split_options(argv: Sequence[str]) -> tuple[Words, tuple[Words, ...]]:
    """The words before the first option, and the options with their values."""
    starts = [index for index, word in enumerate(argv) if word.startswith("--")] or [len(argv)]
    spans = zip(starts, [*starts[1:], len(argv)], strict=True)
    return tuple(argv[: starts[0]]), tuple(tuple(argv[start:end]) for start, end in spans if start < end)


def command_lines(rendering: Rendering) -> list[str]:
    """The command as a person would write it, a line for each variable and option."""
    head, options = split_options(rendering.argv)
    launcher = " ".join((*shown_launcher(rendering.argv), *head))
    variables = [f"{name}={value}" for name, value in rendering.env.items()]
    return [*variables, launcher, *(" ".join(option) for option in options)]


def _read_settings(side: Side) -> dict[str, Said]:
    """Every setting of the plan with the words that say it and what is wrong with it."""
    words: dict[str, Words] = {}
    for option in split_options(side.rendering.argv)[1]:
        name = option[0] if option[0] in side.rendering.said else f"--{option[0].removeprefix('--no-')}"
        words[side.rendering.said.get(name, name)] = option
    for name, value in side.rendering.env.items():
        words[side.rendering.said.get(name, f"engine.env.{name}")] = (f"{name}={value}",)
    refused = {problem.key: problem.message for problem in side.plan.problems if problem.key}
    return {choice.key: _make_said(choice, words, refused) for choice in side.plan.choices}


def _make_said(choice: Choice, words: Mapping[str, Words], refused: Mapping[str, str]) -> Said:
    return Said(choice.value, choice.origin, choice.reason, words.get(choice.key, ()), refused.get(choice.key))


def _compare_settings(before: Mapping[str, Said], after: Mapping[str, Said]) -> Iterator[SettingChange]:
    for key in dict.fromkeys((*before, *after)):
        change = _judge_change(before.get(key), after.get(key))
        if change is not None:
            yield SettingChange(key, change, before.get(key), after.get(key))


def _judge_change(before: Said | None, after: Said | None) -> Change | None:
    if before is None:
        return "appears"
    if after is None:
        return "vanishes"
    if (before.refused is None) != (after.refused is None):
        return "refused" if after.refused else "accepted"
    if before.value != after.value:
        return "value"
    if before.words != after.words:
        return "written" if _name(before.words) == _name(after.words) else "renamed"
    return None if before.reason == after.reason else "reason"


def _name(words: Words) -> str:
    return words[0].partition("=")[0] if words else ""


def _compare_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            yield from ((" ", line) for line in before[start:end])
            continue
        yield from (("-", line) for line in before[start:end])
        yield from (("+", line) for line in after[new_start:new_end])


def _compare_rules(before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """The fields that differ, those of nested records too."""
    for field in fields(before):
        first, second = getattr(before, field.name), getattr(after, field.name)
        if is_dataclass(first):
            yield from _compare_rules(first, second)
        elif first != second:
            yield field.name, first, second


def _compare_options(before: Mapping[str, Flag], after: Mapping[str, Flag]) -> OptionChanges:
    """An option that lives on as an alias of another has not vanished."""
    pairs = [(flag, after[name]) for name, flag in before.items() if name in after]
    aliases = {alias for flag in after.values() for alias in flag.aliases}
    former = {alias for flag in before.values() for alias in flag.aliases}
    return OptionChanges(
        counts=(len(before), len(after)),
        appeared=tuple(flag for name, flag in after.items() if name not in before and name not in former),
        vanished=tuple(flag for name, flag in before.items() if name not in after and name not in aliases),
        changed=tuple((first, second) for first, second in pairs if _meaning(first) != _meaning(second)),
    )


def _meaning(flag: Flag) -> tuple[Any, ...]:
    """What a user of the option notices; help texts and groups are not compared."""
    return flag.kind, describe_type(flag), flag.choices, flag.default, flag.default_text, flag.nargs


_FORMS: Mapping[str, str] = {
    "store_true": "takes nothing",
    "bool_optional": "has a --no- form",
    "bool_value": "takes true or false",
    "json": "takes JSON",
    "append": "may be repeated",
    "optional_value": "takes a value or nothing",
    "value": "takes a value",
}


def describe_change(before: Flag, after: Flag) -> Iterator[str]:
    """What is different about an option, in words; each one thing."""
    if before.kind != after.kind:
        yield f"{_FORMS.get(after.kind, after.kind)} (before: {_FORMS.get(before.kind, before.kind)})"
    elif describe_type(before) != describe_type(after):
        yield f"read as {describe_type(after)} (before: {describe_type(before)})"
    yield from _describe_values(list(map(str, before.choices)), list(map(str, after.choices)))
    first, second = _default_of(before), _default_of(after)
    if first != second:
        yield f"default {first} -> {second}"
    if before.nargs != after.nargs and before.kind == after.kind:
        yield f"number of values: {before.nargs or 'one'} -> {after.nargs or 'one'}"


def _describe_values(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The values that came and went; a list that begins or ends says so."""
    if before and not after:
        yield "takes other values than the listed ones"
    elif after and not before:
        yield f"takes only {', '.join(after)}"
    else:
        came = [f"+{value}" for value in after if value not in before]
        went = [f"-{value}" for value in before if value not in after]
        if came or went:
            yield f"values {' '.join((*came, *went))}"


def _default_of(flag: Flag) -> str:
    return flag.default_text or json.dumps(flag.default)
