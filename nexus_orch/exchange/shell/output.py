"""What commands in `$(...)` print, as far as a script's text tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.shell.expand import Expander
from nexus_orch.exchange.shell.parser import parse
from nexus_orch.exchange.shell.state import State
from nexus_orch.exchange.shell.tree import AndOr, Node, Simple
from nexus_orch.exchange.start import has_reference

_MOST_NUMBERS = 64


def print_of(command: str, state: State) -> str | None:
    """What the command prints; None when only a run can tell."""
    try:
        nodes, _ = parse(command)
    except ConfigError:
        return None
    if len(nodes) != 1:
        return None
    if isinstance(nodes[0], AndOr):
        return _last_of_folder(nodes[0], state)
    return _print_of_simple(nodes[0], state)


def _last_of_folder(node: AndOr, state: State) -> str | None:
    """`cd FOLDER && pwd` prints the folder."""
    items = [item for _, item in node.items]
    if len(items) != 2 or not all(isinstance(item, Simple) for item in items):
        return None
    first, second = items
    assert isinstance(first, Simple)
    assert isinstance(second, Simple)
    words = _words(first, state)
    if words[:1] != ["cd"] or _words(second, state)[:1] != ["pwd"]:
        return None
    return words[-1] if len(words) > 1 else None


def _words(node: Simple, state: State) -> list[str]:
    expander = Expander(state, print_of, depth=10)
    return [field for word in node.words for field in expander.fields(word)]


def _print_of_simple(node: Node, state: State) -> str | None:
    if not isinstance(node, Simple):
        return None
    words = _words(node, state)
    if not words or any(has_reference(word) for word in words):
        return None
    name, rest = words[0], words[1:]
    if name == "cat" and not rest:
        body = next((redirect.body for redirect in node.redirects if redirect.body is not None), None)
        return None if body is None else Expander(state, print_of, depth=10).text(body).rstrip("\n")
    if any(redirect.operator in (">", ">>", "&>") for redirect in node.redirects):
        return None
    return _known_print(name, rest, state)


def _known_print(name: str, rest: list[str], state: State) -> str | None:
    if name == "pwd":
        here = state.variables.get("PWD")
        return here if isinstance(here, str) else None
    printer = _PRINTERS.get(name)
    return printer(rest) if printer is not None else None


def _echo(rest: list[str]) -> str:
    return " ".join(word for index, word in enumerate(rest) if index or word not in ("-n", "-e"))


def _printf(rest: list[str]) -> str | None:
    return rest[1] if len(rest) == 2 and rest[0] in ("%s", "%s\\n", "%d") else None


def _basename(rest: list[str]) -> str | None:
    last = rest[0].rstrip("/").rpartition("/")[2] if rest else None
    return last.removesuffix(rest[1]) if last is not None and len(rest) > 1 else last


def _dirname(rest: list[str]) -> str | None:
    return (rest[0].rstrip("/").rpartition("/")[0] or ".") if rest else None


def _same(rest: list[str]) -> str | None:
    return rest[-1] if rest else None


def _seq(rest: list[str]) -> str | None:
    if not 1 <= len(rest) <= 2 or not all(word.isdecimal() and len(word) < 9 for word in rest):
        return None
    start, end = (1, int(rest[0])) if len(rest) == 1 else (int(rest[0]), int(rest[1]))
    return "\n".join(map(str, range(start, end + 1))) if end - start < _MOST_NUMBERS else None


_PRINTERS: Mapping[str, Callable[[list[str]], str | None]] = {
    "echo": _echo,
    "printf": _printf,
    "basename": _basename,
    "dirname": _dirname,
    "realpath": _same,
    "readlink": _same,
    "seq": _seq,
}
