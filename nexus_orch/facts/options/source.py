"""The options of `vllm serve`, read from the source files of an installed vLLM without importing it."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nexus_orch.facts.options.eval import Declaration, Evaluator, Intrinsic
from nexus_orch.facts.options.expressions import Frame
from nexus_orch.facts.options.fields import Rules, hints_of, make_field_keywords, read_rules
from nexus_orch.facts.options.tree import SourceTree
from nexus_orch.facts.options.values import (
    ClassValue,
    FlagsUnreadableError,
    FunctionValue,
    Parser,
    Unknown,
    Value,
    plain,
)
from nexus_orch.types import Flag

__all__ = ["FlagsUnreadableError", "read_flags"]

_MUST_HAVE = ("--max-model-len", "--port", "--tensor-parallel-size", "--gpu-memory-utilization")
"""Options of every release from 0.4.3 to 0.33.0: without them the reading went wrong."""


def read_flags(root: Path) -> tuple[dict[str, Flag], tuple[Path, ...]]:
    """The options by long name, and the files they were read from; `root` is the folder of the package `vllm`.

    Raises FlagsUnreadableError when the sources are missing, broken or not understood.
    """
    evaluator = Evaluator(SourceTree(root), _make_intrinsics())
    try:
        with _without_collection():
            _follow_entry(evaluator)
            quantizations = _quantizations(evaluator)
    except SyntaxError as error:
        raise FlagsUnreadableError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FlagsUnreadableError(str(error)) from error
    flags = {}
    for declaration in evaluator.declarations:
        if declaration.names[0].startswith("-") and declaration.parser.command in ("", "serve"):
            flag = make_flag(declaration)
            if flag.name == "--quantization" and not flag.choices:
                flag = replace(flag, known_values=quantizations)
            flags[flag.name] = flag
    missing = [name for name in _MUST_HAVE if name not in flags]
    if missing:
        raise FlagsUnreadableError(f"no {', '.join(missing)} among the {len(flags)} options found")
    return flags, evaluator.tree.files


@contextmanager
def _without_collection() -> Iterator[None]:
    """Syntax trees are hundreds of thousands of objects that all stay alive: collecting in between doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _follow_entry(evaluator: Evaluator) -> None:
    """Follow the function that builds the parser of `vllm serve` in this release."""
    tree = evaluator.tree
    package = tree.package
    cli = tree.module(f"{package}.entrypoints.cli.serve")
    if cli is not None:
        command = evaluator.lookup(cli, "ServeSubcommand")
        method = evaluator.attribute(command, "subparser_init")
        if isinstance(method, FunctionValue):
            evaluator.call(method, [Parser()], {})
            return
    scripts = tree.module(f"{package}.scripts")  # 0.5.5 to 0.6.6
    if scripts is not None:
        main = evaluator.lookup(scripts, "main")
        if isinstance(main, FunctionValue):
            evaluator.call(main, [], {})
            evaluator.declarations[:] = [item for item in evaluator.declarations if item.parser.command == "serve"]
            return
    server = tree.module(f"{package}.entrypoints.openai.cli_args")  # 0.4.3: `python -m` the API server itself
    maker = None if server is None else evaluator.lookup(server, "make_arg_parser")
    if not isinstance(maker, FunctionValue):
        raise FlagsUnreadableError("no command line of `vllm serve` found")
    evaluator.call(maker, [], {})


def _quantizations(evaluator: Evaluator) -> tuple[Value, ...]:
    """The methods that this release brings; plugins add others, so the option itself takes any name (0.9.2 on)."""
    module = evaluator.tree.module(f"{evaluator.tree.package}.model_executor.layers.quantization")
    found = None if module is None else evaluator.tree.find(module, "QuantizationMethods")
    if found is None or not isinstance(found.node, ast.expr):
        return ()
    return tuple(value for hint in hints_of(evaluator, found.node, found.module, Rules()) for value in hint.values)


def _make_intrinsics() -> dict[str, Intrinsic]:
    """The functions of vLLM and typing that are answered instead of being followed."""
    rules_of: dict[str, Rules] = {}

    def get_kwargs(evaluator: Evaluator, node: ast.Call, frame: Frame) -> Value:
        cls = evaluator.evaluate(node.args[0], frame)
        function = evaluator.evaluate(node.func, frame)
        if not isinstance(cls, ClassValue) or not isinstance(function, FunctionValue):
            return Unknown(node)
        module = function.module
        if module.name not in rules_of:
            rules_of[module.name] = read_rules(evaluator, module)
        return make_field_keywords(evaluator, cls, rules_of[module.name])

    def get_args(evaluator: Evaluator, node: ast.Call, frame: Frame) -> Value:
        for hint in hints_of(evaluator, node.args[0], frame.module, Rules()):
            if hint.kind == "literal":
                return list(hint.values)
        return Unknown(node)

    return {"get_kwargs": get_kwargs, "get_args": get_args}


def make_flag(declaration: Declaration) -> Flag:
    """The option that one `add_argument` call declares."""
    keywords = declaration.keywords
    long = next((name for name in declaration.names if name.startswith("--")), declaration.names[0])
    kind = _kind(keywords)
    default = keywords.get("default", False if kind == "store_true" else None)
    choices = _values(keywords.get("choices"))
    nargs = keywords.get("nargs")
    help_text = keywords.get("help")
    return Flag(
        name=long,
        kind=kind,
        aliases=tuple(name for name in declaration.names if name != long),
        type=_type(keywords.get("type")),
        choices=tuple(choice for choice in choices if choice is not None),
        default=None if isinstance(default, Unknown) else plain(default),
        nargs=None if nargs is None else str(plain(nargs)),
        optional=bool(keywords.get("optional")) or None in choices,
        known_values=_values(keywords.get("metavar")),
        default_text=default.text if isinstance(default, Unknown) else None,
        group=declaration.parser.group,
        help=_sentence(help_text) if isinstance(help_text, str) else "",
    )


def _values(value: Value) -> tuple[Value, ...]:
    return tuple(plain(value)) if isinstance(value, list | tuple) else ()


def _sentence(text: str) -> str:
    """The first sentence of a help text, on one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".:") + "." if paragraph else ""


def _kind(keywords: Mapping[str, Value]) -> str:
    if "**" in keywords:
        return "other"
    action = keywords.get("action")
    name = action.node.name if isinstance(action, ClassValue) else str(plain(action)).rpartition(".")[2]
    if name in ("store_true", "append"):
        return name
    if name == "BooleanOptionalAction":
        return "bool_optional"
    if name == "StoreBoolean":
        return "bool_value"
    if "const" in keywords and keywords.get("nargs") == "?":
        return "optional_value"
    return "json" if keywords.get("json") else "value"


def _type(value: Value) -> str | None:
    match value:
        case None:
            return None
        case str():
            return value
        case FunctionValue(node=node) | ClassValue(node=node):
            return node.name
        case Unknown():
            return value.text
    return None
