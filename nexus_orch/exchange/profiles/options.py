"""The arguments of a foreign command as vLLM's own parser reads them, in every spelling that it accepts.

Source: vllm/utils/argparse_utils.py (0.32.0) and argparse: underscores for dashes, `--x=value`, `--no-x`, short names,
unambiguous beginnings of names, dotted JSON keys, `-O3`; the last of several wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nexus_orch.adapt.substitutes import find_substitute
from nexus_orch.adapt.values import read_value
from nexus_orch.errors import Problem
from nexus_orch.facts.options.catalogue import catalogue_flags, catalogue_releases, releases_where, render_releases
from nexus_orch.suggest import suggest
from nexus_orch.types import EngineFacts, Flag

_NUMBER = re.compile(r"-\d")
_LEVEL = re.compile(r"-O=?(?P<level>\w+)")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Option:
    """One option of the command. `written` is how it stands there, `words` how our profile would pass it on."""

    flag: Flag
    written: str
    values: tuple[str, ...]
    is_negated: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnknownOption:
    """An option that the release does not have; `flag` is what other releases know about it."""

    name: str
    values: tuple[str, ...]
    flag: Flag | None


@dataclass
class Parsed:
    """What the arguments say. `positionals` begins with the model, when it is given so."""

    options: list[Option] = field(default_factory=list)
    unknown: list[UnknownOption] = field(default_factory=list)
    positionals: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse_options(argv: Sequence[str], engine: EngineFacts) -> Parsed:
    """The options and positional words of a server's arguments on this release."""
    parsed = Parsed()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-" or _NUMBER.match(word):
            parsed.positionals.append(word)
        elif word != "--":
            _take(word, rest, engine, parsed)
    return parsed


def _take(word: str, rest: list[str], engine: EngineFacts, parsed: Parsed) -> None:
    """The option that begins with `word`; its values are taken from `rest`."""
    level = _LEVEL.fullmatch(word)
    if level is not None and not word.startswith("--"):
        flag = engine.flag("--optimization-level") or engine.flag("-O")
        if flag is not None:
            parsed.options.append(Option(flag, word, (level["level"],), words=(f"-O{level['level']}",)))
            return
    name, assigned, value = word.partition("=")
    root, dot, keys = name.partition(".")
    spelling = "--" + root[2:].replace("_", "-") if root.startswith("--") else root
    flag, is_negated = find_option(spelling, engine)
    if flag is None:
        known = _known_elsewhere(spelling)
        values = (value,) if assigned else _take_values(known, rest) if known else _take_all(rest, most=1)
        parsed.unknown.append(UnknownOption(spelling, values, known))
        return
    values = (value,) if assigned else (tuple(rest[:1]) if dot else _take_values(flag, rest))
    if dot and not assigned:
        del rest[:1]
    written = " ".join((name, *values)) if not assigned else word
    mistake = judge_count(flag, values, is_dotted=bool(dot))
    if mistake is not None:
        parsed.problems.append(Problem(f"{written}: {flag.name} {mistake}", cause="unrecognized_argument"))
        return
    full = f"--no-{flag.name.removeprefix('--')}" if is_negated else flag.name
    words = (f"{full}.{keys}" if dot else full, *values)
    if any(value.startswith("-") and not _NUMBER.match(value) for value in values):
        words = (f"{words[0]}={values[0]}",)  # a value that would be taken for an option
    parsed.options.append(Option(flag, written, values, is_negated, words))


def _known_elsewhere(name: str) -> Flag | None:
    """The option as the newest release that has it knows it."""
    releases = map(catalogue_flags, reversed(catalogue_releases()))
    return next((flags[name] for flags in releases if name in flags), None)


def find_option(spelling: str, engine: EngineFacts) -> tuple[Flag | None, bool]:
    """The option of that spelling, and whether it is the --no- form; a beginning that fits one option only will do."""
    exact = engine.flag(spelling)
    if exact is not None:
        return exact, False
    switches = {f"--no-{flag.name[2:]}": flag for flag in engine.flags.values() if flag.kind == "bool_optional"}
    if spelling in switches:
        return switches[spelling], True
    if not spelling.startswith("--") or _known_elsewhere(spelling) is not None:
        return None, False  # --device is no short form of --device-ids: it is an option of other releases
    near = [(flag, False) for name, flag in engine.flags.items() if name.startswith(spelling)]
    near += [(flag, True) for name, flag in switches.items() if name.startswith(spelling)]
    return near[0] if len(near) == 1 else (None, False)


def _take_values(flag: Flag, rest: list[str]) -> tuple[str, ...]:
    if flag.kind in ("store_true", "bool_optional"):
        return ()
    if flag.kind == "bool_value" or flag.nargs == "?" or flag.kind == "optional_value":
        takes = bool(rest) and (flag.kind != "bool_value" or rest[0].lower() in _WORDS)
        return _take_all(rest, most=1) if takes else ()
    if flag.nargs in ("+", "*") or flag.kind == "other":
        return _take_all(rest)
    return _take_all(rest, most=1)


def _take_all(rest: list[str], most: int | None = None) -> tuple[str, ...]:
    """Words up to the next option. Text with blanks, JSON and negative numbers are values whatever they begin with."""
    taken: list[str] = []
    while rest and (most is None or len(taken) < most):
        if rest[0].startswith("-") and not _NUMBER.match(rest[0]) and " " not in rest[0]:
            break
        taken.append(rest.pop(0))
    return tuple(taken)


def judge_count(flag: Flag, values: tuple[str, ...], *, is_dotted: bool) -> str | None:
    """What is wrong with the number of values, or None."""
    if is_dotted:
        return None if len(values) == 1 else "needs a value after its key"
    if flag.kind in ("store_true", "bool_optional"):
        return "takes no value" if values else None
    return None if values or flag.kind in ("bool_value", "optional_value", "other") else "needs a value"


def read_option(option: Option) -> bool | int | float | str | list[str]:
    """The value of an option in its own type. Raises ValueError with what is wrong."""
    flag = option.flag
    if flag.kind in ("store_true", "bool_optional"):
        return not option.is_negated
    if flag.nargs in ("+", "*") and isinstance(flag.default, list):
        return list(option.values)
    text = option.values[0] if option.values else "true"
    if flag.kind == "bool_value":
        if text.lower() not in _WORDS:
            raise ValueError(f"takes true or false, not {text}")
        return _WORDS[text.lower()]
    return read_value(flag, text)  # type: ignore[no-any-return]


def make_unknown(option: UnknownOption, engine: EngineFacts) -> Problem:
    """The problem of an option that this release does not have, with the nearest name and who had it."""
    spellings = [name for flag in engine.flags.values() for name in (flag.name, *flag.aliases)]
    had = releases_where(option.name)
    substitute = find_substitute(engine, option.name)
    first = substitute or suggest(option.name, spellings)
    remedies = [first] if first else []
    remedies += [f"{render_releases(had)} of vLLM have it: name the release with --release"] if had else []
    remedies.append("--skip-unknown leaves it out")
    message = f"vLLM {engine.version} has no option {option.name}"
    return Problem(message, remedy="; ".join(remedies), cause="unrecognized_argument")
