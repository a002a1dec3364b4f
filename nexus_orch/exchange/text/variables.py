"""Variables inside the text of shell scripts and compose files: $NAME, ${NAME}, ${NAME:-default}."""

from __future__ import annotations

import re

from nexus_orch.exchange.start import Variables, make_reference

LITERAL_DOLLAR = "\x00"
"""Stands for a dollar sign that begins no variable, until the text is expanded."""

_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<how>:?[-=?+])(?P<rest>[^}]*))?\})")
_PRESENT_DIRECTORY = re.compile(r"\$\(\s*pwd\s*\)|`\s*pwd\s*`")


def expand(text: str, variables: Variables) -> str:
    """The text with the values of its variables; one without a value becomes a reference."""
    text = _PRESENT_DIRECTORY.sub("${PWD}", text)
    return _VARIABLE.sub(lambda match: _value(match, variables), text).replace(LITERAL_DOLLAR, "$")


def _value(match: re.Match[str], variables: Variables) -> str:
    name = match["plain"] or match["name"]
    how, rest = match["how"] or "", match["rest"] or ""
    value = variables.get(name)
    if how.endswith("+"):
        return rest if value else ""
    if value:
        return value
    if how in ("-", ":-", "=", ":=") and (how.startswith(":") or value is None) and not _is_secret_default(name, rest):
        return expand(rest, variables)
    return make_reference(name) if value is None else value


def _is_secret_default(name: str, rest: str) -> bool:
    """`${HF_TOKEN:-}` is how files pass on a variable that may be unset: it is a reference, not an empty text."""
    return not rest and name.isupper()
