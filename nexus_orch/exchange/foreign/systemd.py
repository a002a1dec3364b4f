"""systemd units: the command of ExecStart with the variables of the unit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nexus_orch.exchange.foreign.shell import find_starts
from nexus_orch.exchange.start import Start, broken, make_reference
from nexus_orch.exchange.text.secrets import API_KEY_VARIABLE

API_KEY_SECTION = "X-Nexus"
"""A section that systemd ignores by its prefix; it holds what EnvironmentFile cannot tell."""
API_KEY_OPTION = "ApiKeyVariable"

_WORD = re.compile(r"""(?:[^\s"']|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')+""", re.DOTALL)
_PIECE = re.compile(r""""((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|((?:\\.|[^"'\\])+)""", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")


def parse_unit(text: str) -> list[Start]:
    """The starts of vLLM in a unit's ExecStart lines. Raises ConfigError for quotes that are not closed."""
    options = list(_options(text))
    env: dict[str, str] = {}
    for name, value in options:
        if name == "Environment":
            for word in _split(value):
                variable, _, given = word.partition("=")
                env[variable] = given.replace("%%", "%")
    files = [value.lstrip("-") for name, value in options if name == "EnvironmentFile"]
    notes = [f"the variables of EnvironmentFile {file}, which was not read" for file in files]
    key = next((value for name, value in options if name == API_KEY_OPTION), None)
    if key is not None:
        env[API_KEY_VARIABLE] = make_reference(key)
    found = []
    for name, value in options:
        if name == "ExecStart" and value:
            words = [_expand(word, env) for word in _split(value.lstrip("@-:+!"))]
            found += find_starts(words, env, "ExecStart")
    kept = notes if key is None else []  # a file that only holds the API key is explained with it
    return [start.with_notes(*kept) for start in found]


def _options(text: str) -> Iterator[tuple[str, str]]:
    """The NAME=VALUE lines; a backslash at the end of a line continues it."""
    for line in re.sub(r"\\\r?\n(?:[ \t]*[#;][^\n]*\n)*", " ", text).splitlines():
        name, assigned, value = line.strip().partition("=")
        if assigned and not name.startswith(("#", ";", "[")):
            yield name.strip(), value.strip()


def _split(value: str) -> list[str]:
    """The words of a value, without quotes and escapes."""
    rest = _WORD.sub("", value)
    if '"' in rest or "'" in rest:
        raise broken("a quote in the unit is never closed", "close it: systemd would ignore this line")
    return ["".join(_unquoted(piece) for piece in _PIECE.finditer(word[0])) for word in _WORD.finditer(value)]


def _unquoted(piece: re.Match[str]) -> str:
    text = next(part for part in piece.groups() if part is not None) if any(piece.groups()) else ""
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xu" and len(code) > 1:
        return chr(int(code[1:], 16))
    if len(code) == 3:
        return chr(int(code, 8))
    return _ESCAPES.get(code, code)


def _expand(word: str, env: Mapping[str, str]) -> str:
    """`$$` and `%%` are plain signs, ${NAME} a variable of the unit."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return "$" if name is None else env.get(name, make_reference(name))

    return _VARIABLE.sub(value, word).replace("%%", "%")
