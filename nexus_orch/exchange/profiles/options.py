"""The options of a foreign command: what the release knows of them, each value in its own type, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus_orch.adapt.arguments import Argument, Arguments, Spellings, judge_count
from nexus_orch.adapt.substitutes import find_substitute
from nexus_orch.adapt.values import read_value
from nexus_orch.errors import Problem
from nexus_orch.facts.options.catalogue import releases_where, render_releases
from nexus_orch.suggest import suggest
from nexus_orch.types import EngineFacts, Flag

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Option:
    """One option that the release has, with its flag."""

    flag: Flag
    given: Argument


@dataclass
class SortedArguments:
    """The options of a command: those of the release, those that it lacks, and what is wrong."""

    options: list[Option] = field(default_factory=list)
    unknown: list[Argument] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def sort_arguments(arguments: Arguments, engine: EngineFacts) -> SortedArguments:
    """The options of a command by what the release knows of them."""
    found = SortedArguments()
    for given in arguments.options:
        wrong = judge_count(given, engine)
        if given.candidates:
            remedy = f"spell it out: {' or '.join(given.candidates)}"
            message = f"{given.written}: {given.name} is short for several options"
            found.problems.append(Problem(message, remedy=remedy, cause="unrecognized_argument"))
        elif given.flag is None:
            found.unknown.append(given)
        elif wrong is not None:
            message = f"{given.written}: {given.flag.name} {wrong}"
            found.problems.append(Problem(message, cause="unrecognized_argument"))
        else:
            found.options.append(Option(given.flag, given))
    return found


def read_option(option: Option) -> bool | int | float | str | list[str]:
    """The value of an option in its own type. Raises ValueError with what is wrong."""
    flag = option.flag
    if flag.kind in ("store_true", "bool_optional"):
        return not option.given.is_negated
    if flag.nargs in ("+", "*") and isinstance(flag.default, list):
        return list(option.given.values)
    text = option.given.values[0] if option.given.values else "true"
    if flag.kind == "bool_value":
        if text.lower() not in _TRUTH:
            raise ValueError(f"takes true or false, not {text}")
        return _TRUTH[text.lower()]
    return read_value(flag, text)  # type: ignore[no-any-return]


def make_unknown(given: Argument, engine: EngineFacts) -> Problem:
    """The problem of an option that this release does not have, with the nearest name and who had it."""
    had = releases_where(given.spelling)
    substitute = find_substitute(engine, given.spelling)
    first = substitute or suggest(given.spelling, Spellings(engine).names)
    remedies = [first] if first else []
    remedies += [f"{render_releases(had)} of vLLM have it: name the release with --release"] if had else []
    remedies.append("--skip-unknown leaves it out")
    message = f"vLLM {engine.version} has no option {given.spelling}"
    return Problem(message, remedy="; ".join(remedies), cause="unrecognized_argument")
