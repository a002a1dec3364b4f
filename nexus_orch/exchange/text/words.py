"""The words of shell text: quotes, escapes, comments, continued lines and redirections. Variables stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nexus_orch.exchange.start import broken
from nexus_orch.exchange.text.variables import LITERAL_DOLLAR

_TOKEN = re.compile(
    r"""
      (?P<continued>\\\r?\n)
    | (?P<blank>[ \t\r]+)
    | (?P<comment>\#[^\n]*)
    | (?P<redirect>\d?(?:&>>|&>|>>|>\||>&|<<<|<<-?|<&|>|<))
    | (?P<separator>&&|\|\||;;|[;&|()\n])
    | (?P<single>'[^']*')
    | (?P<double>"(?:\\.|[^"\\])*")
    | (?P<escaped>\\.)
    | (?P<command>\$\((?:[^()]|\([^()]*\))*\)|`[^`]*`)
    | (?P<variable>\$\{[^}]*\}|\$\w+|\$[@*])
    | (?P<unclosed>['"])
    | (?P<text>[^\s'"\\$`;&|()<>\#\d]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\$`\n])')
_ARRAY_START = re.compile(r"([A-Za-z_]\w*)\+?=")


@dataclass(frozen=True)
class Word:
    """`is_bare`: nothing but a variable without quotes, whose value the shell splits into words again."""

    text: str
    is_bare: bool = False


@dataclass(frozen=True)
class ShellCommand:
    """The words of one command; those of an array when `array` names one."""

    words: tuple[Word, ...]
    line: int
    array: str | None = None


def split_words(text: str) -> list[str]:
    """The words of one command line, variables as they stand. Raises ConfigError for quotes that are not closed."""
    return [word.text.replace(LITERAL_DOLLAR, "$") for command in split_commands(text) for word in command.words]


def split_commands(text: str) -> Iterator[ShellCommand]:
    """The commands of a script in their order. Raises ConfigError for quotes that are not closed."""
    words: list[Word] = []
    line, array, skips = 1, None, False
    for kind, value, number in _lex(text):
        if kind == "word":
            if skips:
                skips = False  # the file of a redirection
                continue
            line = line if words else number
            words.append(Word(value, is_bare=value.startswith("$") and _is_one_variable(value)))
        elif kind == "quoted":
            line = line if words else number
            if not skips:
                words.append(Word(value))
            skips = False
        elif kind == "redirect":
            skips = True
        elif array is not None:
            if value == ")":
                yield ShellCommand(tuple(words), line, array)
                words, array = [], None
        elif value == "(" and len(words) == 1 and (match := _ARRAY_START.fullmatch(words[0].text)):
            words, array = [], match[1]
        elif words:
            yield ShellCommand(tuple(words), line)
            words = []
    if words:
        yield ShellCommand(tuple(words), line, array)


def _is_one_variable(text: str) -> bool:
    return re.fullmatch(r"\$\w+|\$\{[^}]*\}", text) is not None


def _lex(text: str) -> Iterator[tuple[str, str, int]]:
    """Words (`word`, or `quoted` where a part stands in quotes), `redirect` and `separator`, each with its line."""
    word: str | None = None
    is_quoted = False
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative takes any character
        kind, value = str(match.lastgroup), match[0]
        if kind == "unclosed":
            raise broken(f"a quote ({value}) in line {line} is never closed", "close it, or escape it with a backslash")
        if word is not None and kind == "comment":
            kind, value = "text", "#"
        if word is not None and kind == "redirect" and value[0].isdigit():
            kind, value = "text", value[0]
        if kind in ("blank", "comment", "redirect", "separator"):
            if word is not None:
                yield ("quoted" if is_quoted else "word"), word, line
            word, is_quoted = None, False
            if kind in ("redirect", "separator"):
                yield kind, value, line
        elif kind != "continued":
            word = (word or "") + _unquoted(kind, value)
            is_quoted |= kind in ("single", "double")
        line += value.count("\n")
        position += len(value)
    if word is not None:
        yield ("quoted" if is_quoted else "word"), word, line


def _unquoted(kind: str, value: str) -> str:
    """What a piece of a word says; dollar signs that begin no variable are marked."""
    match kind:
        case "single":
            return value[1:-1].replace("$", LITERAL_DOLLAR)
        case "double":
            return _ESCAPED_IN_QUOTES.sub(_unescaped, value[1:-1])
        case "escaped":
            return value[1].replace("$", LITERAL_DOLLAR)
    return value


def _unescaped(match: re.Match[str]) -> str:
    return {"\n": "", "$": LITERAL_DOLLAR}.get(match[1], match[1])
