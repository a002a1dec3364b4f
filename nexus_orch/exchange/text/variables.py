"""Variables inside the text of compose files and of files with variables: $NAME, ${NAME:-${OTHER:-default}}."""

from __future__ import annotations

import re
import shlex

from nexus_orch.exchange.start import Variables, broken, make_reference
from nexus_orch.types import is_secret_name

_NAME = re.compile(r"[A-Za-z_]\w*")
_WHEN = re.compile(r"(:?[-?+])?(.*)", re.DOTALL)
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
_DEEPEST = 40


def interpolate(text: str, variables: Variables, depth: int = 0) -> str:
    """The text with the values of its variables, as compose fills them in: one without a value becomes a reference, and
    `$$` is a plain dollar sign."""
    said: list[str] = []
    position = 0
    while (at := text.find("$", position)) >= 0:
        said.append(text[position:at])
        following = text[at + 1 : at + 2]
        name = _NAME.match(text, at + 1)
        end = _closing(text, at + 1) if following == "{" and depth < _DEEPEST else None
        if following == "$":
            said.append("$")
            position = at + 2
        elif name is not None:
            said.append(variables.get(name[0], make_reference(name[0])))
            position = name.end()
        elif end is not None:
            said.append(_value(text[at + 2 : end], variables, depth))
            position = end + 1
        else:
            said.append("$")
            position = at + 1
    return "".join((*said, text[position:]))


def _closing(text: str, at: int) -> int | None:
    depth = 0
    for position in range(at, min(len(text), at + 4096)):
        if text[position] == "{" and (depth == 0 or text[position - 1] == "$"):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    return None


def _value(inside: str, variables: Variables, depth: int) -> str:
    name = _NAME.match(inside)
    if name is None:
        return f"${{{inside}}}"
    when = _WHEN.fullmatch(inside[name.end() :])
    assert when is not None  # any text fits
    how, rest = when[1] or "", when[2]
    value = variables.get(name[0])
    is_given = value is not None and (bool(value) or not how.startswith(":"))
    if how.endswith("+"):
        return interpolate(rest, variables, depth + 1) if is_given else ""
    if is_given and value is not None:
        return value
    if how.endswith("-") and (rest or not is_secret_name(name[0])):
        return interpolate(rest, variables, depth + 1)
    return make_reference(name[0])  # a secret that may be unset is passed on by an empty default


def parse_env_file(text: str) -> dict[str, str]:
    """The NAME=VALUE lines of a file with variables; quotes and comments are left out."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        value = match[2]
        if value[:1] in ("'", '"') and value.find(value[0], 1) > 0:
            value = value[1 : value.find(value[0], 1)]
        else:
            value = value.partition(" #")[0].rstrip()
        found[match[1]] = value
    return found


def split_words(text: str) -> list[str]:
    """The words of one command line without variables. Raises ConfigError for quotes that are not closed."""
    try:
        return shlex.split(text)
    except ValueError:
        raise broken("a quote in a command is never closed", "close it, or escape it with a backslash") from None
