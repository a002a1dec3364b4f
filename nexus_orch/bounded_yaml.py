"""YAML written by others: read with a bound on what anchors multiply to. Pure.

Nine lines of aliases to aliases make a billion values ("billion laughs"): what reads them as a tree is busy for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MOST_VALUES = 200_000
"""The largest file that anybody serves models with has some thousands."""
DEEPEST = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str) -> Any:
    """The value of a YAML text with one document. Raises yaml.YAMLError, also when it is too large."""
    check_yaml(text)
    return yaml.load(text, Loader=_LOADER)


def load_all_yaml(text: str) -> list[Any]:
    """The values of all documents of a YAML text. Raises yaml.YAMLError, also when it is too large."""
    check_yaml(text)
    return list(yaml.load_all(text, Loader=_LOADER))


def check_yaml(text: str, name: str = "") -> None:
    """Raise yaml.MarkedYAMLError when the anchors of this text (of the file `name`) multiply to too many values or
    contain themselves. A text without an alias holds no more than it shows."""
    if "*" not in text or "&" not in text:
        return
    loader = _LOADER(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if isinstance(node, yaml.Node):
                _Measure(name).size(node, 0)
    finally:
        loader.dispose()


class _Measure:
    """Sizes of nodes with all aliases in them written out; each node is measured once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def size(self, node: yaml.Node, depth: int) -> int:
        key = id(node)
        if key in self._known:
            return self._known[key]
        if key in self._open or depth > DEEPEST:
            raise self._error(node, "an anchor contains itself" if key in self._open else "it is nested too deeply")
        self._open.add(key)
        total = 1 + sum(self.size(part, depth + 1) for part in _parts(node))
        self._open.discard(key)
        if total > MOST_VALUES:
            raise self._error(node, f"its anchors multiply to more than {MOST_VALUES:,} values")
        self._known[key] = total
        return total

    def _error(self, node: yaml.Node, what: str) -> yaml.MarkedYAMLError:
        mark = node.start_mark
        place = yaml.Mark(self._name or mark.name, mark.index, mark.line, mark.column, None, 0)
        return yaml.MarkedYAMLError(problem=what, problem_mark=place)


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
