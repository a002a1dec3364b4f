"""What the expressions of an argument parser's source evaluate to, without running it.

Plain Python values stand for themselves; the classes here stand for what is known only by name.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nexus_orch.facts.options.tree import Module

Value = Any
"""A plain Python value, or one of the classes below."""


class FlagsUnreadableError(Exception):
    """The sources declare an option in a way that cannot be read without running them."""


@dataclass(frozen=True)
class Unknown:
    """A value that only running the source would tell; `source` is its expression."""

    source: ast.expr | str

    @property
    def text(self) -> str:
        return self.source if isinstance(self.source, str) else ast.unparse(self.source)


@dataclass(frozen=True)
class ClassValue:
    """A class of the package."""

    module: Module
    node: ast.ClassDef


@dataclass(frozen=True)
class FunctionValue:
    """A function or method of the package; `receiver` is what a method call binds to its first parameter."""

    module: Module
    node: ast.FunctionDef
    owner: ClassValue | None = None
    receiver: Value = None


@dataclass(frozen=True)
class ModuleValue:
    module: Module


@dataclass(frozen=True)
class SuperValue:
    """`super()` inside a method of `owner`, bound to `receiver`."""

    owner: ClassValue
    receiver: Value


@dataclass(frozen=True)
class EnumMember:
    name: str
    value: Value


@dataclass(frozen=True)
class Parser:
    """An argument parser or a group of one. `command` is the subcommand it parses, "" at the top."""

    command: str = ""
    group: str | None = None


KNOWN: Mapping[str, Value] = {
    "sys.argv": ["vllm", "serve"],  # some options are declared only when --help is not asked for
    "argparse.SUPPRESS": "==SUPPRESS==",
    "ssl.CERT_NONE": 0,
}
"""Values of other modules that the declarations of vLLM use."""

BUILTINS: Mapping[str, Callable[..., Value]] = {
    "bool": bool,
    "dict": dict,
    "int": int,
    "len": len,
    "list": list,
    "set": set,
    "sorted": sorted,
    "str": str,
    "tuple": tuple,
}

METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset({"format", "join", "lower", "lstrip", "removeprefix", "replace", "split", "strip", "upper"}),
    dict: frozenset({"copy", "get", "items", "keys", "pop", "setdefault", "update", "values"}),
    list: frozenset({"append", "copy", "extend", "insert", "remove"}),
    set: frozenset({"add", "copy", "discard", "union"}),
}
"""Methods of plain values that are called for real: they touch nothing but the value."""


def plain(value: Value) -> Value:  # noqa: PLR0911 - one for each kind of value
    """The value as JSON can hold it: enum members by their value, sets and tuples as lists, unknown parts as text."""
    match value:
        case EnumMember(value=inner):
            return plain(inner)
        case dict():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=str)
        case list() | tuple():
            return [plain(item) for item in value]
        case str() | int() | float() | None:
            return value
        case Unknown():
            return value.text
    return str(value)
