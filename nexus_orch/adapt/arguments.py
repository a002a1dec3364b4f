"""The arguments of `vllm serve`, read as a release's own parser reads them, in every spelling that it accepts. Pure.

Sources: vllm/utils/argparse_utils.py (0.32.0; vllm/utils.py before 0.10), and argparse of Python 3.11
(`_parse_optional`, `_get_option_tuples`, `_get_nargs_pattern`): underscores for dashes, `--x=value`, `--no-x`, short
names with their value attached, unambiguous beginnings of names, dotted keys of JSON (`--x.a.b 1`, `--x.list+ 1,2`),
`-O3`, and negative numbers as values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.releases.known import known_releases
from nexus_orch.releases.options import appends_json_keys, takes_json_keys
from nexus_orch.types import EngineFacts, Flag

LEVELS = ("0", "1", "2", "3")
"""What may stand behind -O."""
LEVEL_OPTION = "--optimization-level"

_NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
"""argparse: `_negative_number_matcher`. -1e5 and -5k are taken for options."""


@dataclass(frozen=True)
class Argument:
    """One option as it is given, `written` with its values.

    `name` is how it is called there ("--generation-conf", "-tp", "--x.list+"); `flag` is the option that it means, None
    when the release has none or, with `candidates`, when it is the beginning of several. `keys` are the dotted keys
    behind the name ("a.b", "list+"). `strays` are the words behind it that it does not take.
    """

    written: str
    name: str
    flag: Flag | None = None
    values: tuple[str, ...] = ()
    is_negated: bool = False
    keys: str = ""
    candidates: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    @property
    def spelling(self) -> str:
        """The name as the parser looks it up: dashes for underscores, without keys."""
        return spell(self.name.partition(".")[0])

    @property
    def full_name(self) -> str:
        """The name spelt out, without keys: "--generation-config", "--no-async-scheduling"."""
        if self.flag is None:
            return self.spelling
        return negate(self.flag.name) if self.is_negated else self.flag.name

    @property
    def words(self) -> tuple[str, ...]:
        """The option spelt out, so that it means the same whatever follows."""
        if self.is_level and self.values[0] in LEVELS:
            return (f"-O{self.values[0]}",)
        name = f"{self.full_name}.{self.keys}" if self.keys else self.full_name
        is_alone = len(self.values) == 1  # of several, each was taken for a value already: with a blank in it
        if is_alone and self.values[0].startswith("-") and not _NEGATIVE_NUMBER.fullmatch(self.values[0]):
            return (f"{name}={self.values[0]}",)  # a value that would be taken for an option
        return (name, *self.values)

    @property
    def with_strays(self) -> Argument:
        """The same as if it took the words behind it, too: where no other word may stand, they were meant for it."""
        return replace(self, written=" ".join((self.written, *self.strays)), values=(*self.values, *self.strays))

    @property
    def is_level(self) -> bool:
        """Whether this is -O with something behind it that may be a level."""
        return self.name == "-O" and len(self.values) == 1 and not self.keys


@dataclass(frozen=True)
class Arguments:
    """What stands behind `vllm serve`: `first` are the words before the first option."""

    first: tuple[str, ...] = ()
    options: tuple[Argument, ...] = ()

    @property
    def positionals(self) -> tuple[str, ...]:
        """All words that belong to no option, in their order; vLLM takes one, the model, wherever it stands."""
        return (*self.first, *(word for option in self.options for word in option.strays))


@dataclass(frozen=True)
class Meaning:
    """What a spelling means: an option or the --no- form of one, else the names that it may be short for."""

    flag: Flag | None = None
    is_negated: bool = False
    candidates: tuple[str, ...] = ()


def read_arguments(argv: Sequence[str], engine: EngineFacts) -> Arguments:
    """The options and other words of a server's arguments (without the launcher and `serve`) on this release."""
    if not argv:
        return Arguments()
    spellings = Spellings(engine)
    rest = list(argv)
    first: list[str] = []
    options: list[Argument] = []
    while rest:
        if spellings.is_option(rest[0]):
            options.append(_take(rest.pop(0), rest, spellings))
            continue
        strays, rest = (rest[1:], []) if rest[0] == "--" else (rest[:1], rest[1:])
        if options:
            options[-1] = replace(options[-1], strays=(*options[-1].strays, *strays))
        else:
            first += strays
    return Arguments(tuple(first), tuple(options))


class Spellings:
    """Every name that options have on a release: long and short ones, and the --no- forms of switches."""

    def __init__(self, engine: EngineFacts) -> None:
        self._meanings: dict[str, Meaning] = {}
        for flag in engine.flags.values():
            for name in (flag.name, *flag.aliases):
                self._meanings[name] = Meaning(flag)
                if flag.kind == "bool_optional" and name.startswith("--"):
                    self._meanings[negate(name)] = Meaning(flag, is_negated=True)

    @property
    def names(self) -> list[str]:
        return list(self._meanings)

    def find(self, spelling: str) -> Meaning:
        """What a name means; its beginning will do where it fits one option only.

        A name that is an option of other releases is never short for another one: --device is not --device-ids.
        """
        exact = self._meanings.get(spelling)
        if exact is not None or len(spelling.lstrip("-")) == 0 or find_elsewhere(spelling) is not None:
            return exact or Meaning()
        near = {name: meaning for name, meaning in self._meanings.items() if name.startswith(spelling)}
        distinct = {(meaning.flag.name, meaning.is_negated): meaning for meaning in near.values() if meaning.flag}
        return next(iter(distinct.values())) if len(distinct) == 1 else Meaning(candidates=tuple(near))

    def find_attached(self, word: str) -> Meaning | None:
        """The option of one letter that a word begins with, its value attached (-qawq); None when there is none."""
        return None if word.startswith("--") or len(word) < 3 else self._meanings.get(word[:2])

    def is_option(self, word: str) -> bool:
        """Whether the parser takes a word for an option, known or not; else it is a value."""
        if not word.startswith("-") or word in ("-", "--"):
            return False
        if word.startswith("-O"):  # taken apart before argparse looks at it, whatever stands behind
            return True
        meaning = self.find(spell(word.partition("=")[0].partition(".")[0]))
        if meaning.flag is not None or meaning.candidates or self.find_attached(word) is not None:
            return True
        return _NEGATIVE_NUMBER.fullmatch(word) is None and " " not in word


def _take(word: str, rest: list[str], spellings: Spellings) -> Argument:
    """The option that begins with `word`; its values are taken from `rest`."""
    if word.startswith("-O"):
        return _take_level(word, rest, spellings)
    name, equals, value = word.partition("=")
    root, dot, keys = name.partition(".")
    meaning = spellings.find(spell(root))
    attached = spellings.find_attached(word)
    if meaning == Meaning() and attached is not None:
        return Argument(word, word[:2], attached.flag, (word[2:],))
    if equals:
        values: tuple[str, ...] = (value,)
    elif dot:
        values = _take_next(rest)
    else:
        values = _take_values(meaning.flag or find_elsewhere(spell(root)), rest, spellings)
    written = word if equals else " ".join((word, *values))
    return Argument(written, name, meaning.flag, values, meaning.is_negated, keys, meaning.candidates)


def _take_level(word: str, rest: list[str], spellings: Spellings) -> Argument:
    """-O3, -O=3, -O 3, and -O with a configuration where it is the short name of one.

    It was the short name of --compilation-config from 0.6.6 to 0.11.2, with levels as `-O3`; since 0.12 it is
    --optimization-level (utils/argparse_utils.py) and -cc the configuration.
    """
    attached = word[2:]
    flag = spellings.find(LEVEL_OPTION).flag
    is_short_name = flag is None
    if is_short_name:
        flag = spellings.find("-O").flag
    if attached.startswith(".") and is_short_name:
        keys, equals, value = attached[1:].partition("=")
        values = (value,) if equals else _take_next(rest)
        return Argument(word if equals else " ".join((word, *values)), f"-O.{keys}", flag, values, keys=keys)
    if attached:
        return Argument(word, "-O", flag, (attached.removeprefix("="),))
    if is_short_name or (rest[:1] and rest[0] in LEVELS):
        values = _take_values(flag, rest, spellings)
        return Argument(" ".join((word, *values)), "-O", flag, values)
    return Argument(word, "-O")


def _take_values(flag: Flag | None, rest: list[str], spellings: Spellings) -> tuple[str, ...]:
    """The values that an option takes of the words behind it; one that nobody knows takes at most one."""
    most: int | None = 1
    if flag is not None and flag.kind in ("store_true", "bool_optional"):
        most = 0
    elif flag is not None and (flag.nargs in ("+", "*") or flag.kind == "other"):
        most = None
    taken: list[str] = []
    while rest and (most is None or len(taken) < most) and rest[0] != "--" and not spellings.is_option(rest[0]):
        taken.append(rest.pop(0))
    return tuple(taken)


def _take_next(rest: list[str]) -> tuple[str, ...]:
    """The next word, whatever it looks like: so dotted keys take their value."""
    return (rest.pop(0),) if rest else ()


def find_elsewhere(name: str) -> Flag | None:
    """The option of exactly this long name as the newest release that has it knows it; None when none has."""
    releases = map(catalogue_flags, reversed(known_releases()))
    return next((flags[name] for flags in releases if name in flags), None)


def negate(name: str) -> str:
    """The --no- form of a switch's long name."""
    return f"--no-{name.removeprefix('--')}"


def spell(name: str) -> str:
    """A name as the parser looks it up; only long names have their underscores replaced."""
    return "--" + name[2:].replace("_", "-") if name.startswith("--") else name


def judge_count(argument: Argument, engine: EngineFacts) -> str | None:
    """What is wrong with the number of values of an option that the release has, or None."""
    flag, count = argument.flag, len(argument.values)
    if flag is None:
        return None
    if argument.keys and (wrong := _judge_keys(argument, flag, engine)) is not None:
        return wrong
    if flag.kind in ("store_true", "bool_optional"):
        return "takes no value" if count else None
    if not count:
        return None if flag.kind in ("optional_value", "bool_value", "other") else "needs a value"
    takes_many = not argument.keys and (flag.nargs in ("+", "*") or flag.kind == "other")
    return None if count == 1 or takes_many else f"takes one value, not {count}"


def _judge_keys(argument: Argument, flag: Flag, engine: EngineFacts) -> str | None:
    if flag.kind != "json" and not any(word in (flag.type or "") for word in ("json", "from_cli")):
        return "takes no keys of JSON"
    fact = appends_json_keys if argument.keys.endswith("+") else takes_json_keys
    if not fact(engine.version):
        return f"takes no keys of JSON in vLLM {engine.version} ({fact.span} do)"
    return None if argument.values else "needs a value after its key"
