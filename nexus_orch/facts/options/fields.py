"""Options made of dataclass fields: what vLLM's `get_kwargs` gives for a configuration class, read from its source.

Source: `get_kwargs`, `literal_to_kwargs` and `collection_to_kwargs` in vllm/engine/arg_utils.py, 0.8.5 to 0.33. Where
the releases differ, the installed release's own `get_kwargs` is looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nexus_orch.facts.options.eval import Evaluator
from nexus_orch.facts.options.expressions import Frame
from nexus_orch.facts.options.tree import Module
from nexus_orch.facts.options.values import ClassValue, Unknown, Value

Kind = Literal["bool", "int", "float", "str", "none", "literal", "list", "tuple", "set", "dict", "dataclass", "other"]

_BUILTIN_KINDS: dict[str, Kind] = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "None": "none",
    "list": "list",
    "List": "list",
    "tuple": "tuple",
    "Tuple": "tuple",
    "set": "set",
    "Set": "set",
    "dict": "dict",
    "Dict": "dict",
}
_WRAPPERS = ("Annotated", "SkipValidation", "Required", "Final")
_DATACLASS_DECORATORS = ("dataclass", "config")


@dataclass(frozen=True)
class Hint:
    """One member of a field's type: `values` of a Literal, `items` the element hints of a collection."""

    kind: Kind
    values: tuple[Value, ...] = ()
    items: tuple[Hint, ...] = ()


@dataclass(frozen=True)
class Field:
    """One field of a dataclass with the module that its annotation is written in."""

    module: Module
    annotation: ast.expr
    default: ast.expr | None
    doc: str


@dataclass(frozen=True)
class Rules:
    """How one release turns a field into an option."""

    open_literals: bool = False
    """`Literal[...] | str` takes any string; the literals are only shown in the help (0.10.2 and later)."""
    optional_values: bool = False
    """`bool | str | None` is an option whose value may be left out (0.22.1 and later)."""
    dict_subclasses: bool = False
    """Subclasses of dict count as dict (0.32 and later)."""
    int_types: tuple[tuple[str, str], ...] = ()
    """Fields that take `32k` and the like, with the function that reads them."""


def make_field_keywords(evaluator: Evaluator, cls: ClassValue, rules: Rules) -> dict[str, dict[str, Value]]:
    """The keyword arguments of `add_argument` for each field of a configuration class."""
    return {name: _keywords(evaluator, name, field, rules) for name, field in dict(_fields(evaluator, cls)).items()}


def read_rules(evaluator: Evaluator, module: Module) -> Rules:
    """The rules of the release whose `get_kwargs` stands in this module."""
    bodies = [
        found.node
        for name in ("_compute_kwargs", "get_kwargs", "literal_to_kwargs", "is_dict_subclass")
        if (found := evaluator.tree.find(module, name)) is not None
    ]
    text = "\n".join(ast.unparse(body) for body in bodies)
    return Rules(
        open_literals="'metavar'" in text,
        optional_values="{bool, str, type(None)}" in text,
        dict_subclasses="is_dict_subclass" in text,
        int_types=tuple(pair for body in bodies for pair in _int_types(body)),
    )


def _int_types(function: ast.AST) -> Iterator[tuple[str, str]]:
    """(field, reader) for each `if name == "max_model_len": kwargs[name]["type"] = human_readable_int`."""
    named: dict[str, ast.expr] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = node.value
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare)):
            continue
        for statement in node.body:
            match statement:
                case ast.Assign(value=ast.Name(id=reader)) if reader.startswith("human_readable"):
                    right = node.test.comparators[0]
                    right = named.get(right.id, right) if isinstance(right, ast.Name) else right
                    constants = [inner.value for inner in ast.walk(right) if isinstance(inner, ast.Constant)]
                    yield from ((str(constant), reader) for constant in constants)


def _fields(evaluator: Evaluator, cls: ClassValue) -> Iterator[tuple[str, Field]]:
    """The fields of a dataclass, those of its bases first; class variables are no fields."""
    for base in evaluator.bases(cls):
        yield from _fields(evaluator, base)
    body = cls.node.body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                if ast.unparse(annotation).split("[")[0].rpartition(".")[2] not in ("ClassVar", "InitVar"):
                    yield name, Field(cls.module, annotation, value, _docstring(following))


def _docstring(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return ""


def _keywords(evaluator: Evaluator, name: str, field: Field, rules: Rules) -> dict[str, Value]:
    default = Unknown(name) if field.default is None else evaluator.default(field.default, field.module)
    keywords: dict[str, Value] = {"default": default, "help": field.doc}
    hints = list(hints_of(evaluator, field.annotation, field.module, rules))
    kinds = {hint.kind for hint in hints}
    first = {hint.kind: hint for hint in reversed(hints)}
    if "dataclass" in kinds:
        keywords |= {"json": True}
    elif rules.optional_values and kinds == {"bool", "str", "none"}:
        keywords |= {"type": "str", "nargs": "?", "const": True}
    elif "bool" in kinds:
        keywords |= {"action": "argparse.BooleanOptionalAction"}
    elif "literal" in kinds:
        keywords |= _literal(first["literal"], is_open=rules.open_literals and "str" in kinds)
    elif collection := next((first[kind] for kind in ("tuple", "list", "set") if kind in kinds), None):
        keywords |= _collection(collection, rules)
    elif "int" in kinds:
        keywords |= {"type": dict(rules.int_types).get(name, "int")}
    elif "float" in kinds:
        keywords |= {"type": "float"}
    elif "dict" in kinds:
        keywords |= {"json": True}
    else:
        keywords |= {"type": "str"}
    return keywords | ({"optional": True} if "none" in kinds else {})


def _literal(hint: Hint, *, is_open: bool) -> dict[str, Value]:
    values = sorted(hint.values, key=lambda value: (type(value).__name__, value))
    return {"metavar": values} if is_open else {"choices": values}


def _collection(hint: Hint, rules: Rules) -> dict[str, Value]:
    elements = [item for item in hint.items if item.kind != "none"]
    is_fixed = hint.kind == "tuple" and not any(item.values == (Ellipsis,) for item in hint.items)
    keywords: dict[str, Value] = {"nargs": len(elements) if is_fixed else "+"}
    if elements and elements[0].kind == "literal" and elements[0].values != (Ellipsis,):
        keywords |= _literal(elements[0], is_open=rules.open_literals and any(item.kind == "str" for item in elements))
    elif elements:
        kinds = {item.kind for item in elements}
        keywords["type"] = "str" if "str" in kinds or len(kinds) > 1 else elements[0].kind
    return keywords


def hints_of(evaluator: Evaluator, node: ast.expr, module: Module, rules: Rules) -> Iterator[Hint]:
    """The members of a type annotation, unions and aliases unfolded."""
    match node:
        case ast.Constant(value=None):
            yield Hint("none")
        case ast.Constant(value=v) if v is Ellipsis:
            yield Hint("literal", (Ellipsis,))
        case ast.Constant(value=str(text)):
            yield from hints_of(evaluator, _parse_annotation(text), module, rules)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from hints_of(evaluator, left, module, rules)
            yield from hints_of(evaluator, right, module, rules)
        case ast.Subscript(value=generic, slice=argument):
            yield from _generic(evaluator, ast.unparse(generic).rpartition(".")[2], argument, module, rules)
        case ast.Name() | ast.Attribute():
            yield from _named(evaluator, node, module, rules)
        case _:
            yield Hint("other")


def _parse_annotation(text: str) -> ast.expr:
    """An annotation that is written as a string; a constant, which stands for no known type, when it is no Python."""
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return ast.Constant(0)


def _generic(evaluator: Evaluator, name: str, argument: ast.expr, module: Module, rules: Rules) -> Iterator[Hint]:
    arguments = argument.elts if isinstance(argument, ast.Tuple) else [argument]
    if name == "Literal":
        yield Hint("literal", tuple(_literal_values(evaluator, arguments, module, rules)))
        return
    if name in _WRAPPERS:
        yield from hints_of(evaluator, arguments[0], module, rules)
        return
    items = tuple(hint for item in arguments for hint in hints_of(evaluator, item, module, rules))
    if name == "Optional":
        yield from (*items, Hint("none"))
    elif name == "Union":
        yield from items
    else:
        yield Hint(_BUILTIN_KINDS.get(name, "other"), items=items)


def _literal_values(
    evaluator: Evaluator, arguments: Sequence[ast.expr], module: Module, rules: Rules
) -> Iterator[Value]:
    """The values of a Literal; one that names another Literal brings all of its values."""
    for argument in arguments:
        value = evaluator.evaluate(argument, Frame(module))
        if isinstance(value, Unknown):
            for hint in hints_of(evaluator, argument, module, rules):
                yield from hint.values
        else:
            yield value


def _named(evaluator: Evaluator, node: ast.Name | ast.Attribute, module: Module, rules: Rules) -> Iterator[Hint]:
    name = node.id if isinstance(node, ast.Name) else node.attr
    found = evaluator.tree.find(module, name) if isinstance(node, ast.Name) else None
    if found is None:
        yield Hint(_BUILTIN_KINDS.get(name, "other"))
    elif isinstance(found.node, ast.ClassDef):
        yield Hint(_class_kind(evaluator, ClassValue(found.module, found.node), rules))
    elif isinstance(found.node, ast.FunctionDef):
        yield Hint("other")
    else:
        yield from hints_of(evaluator, found.node, found.module, rules)


def _class_kind(evaluator: Evaluator, cls: ClassValue, rules: Rules) -> Kind:
    for decorator in cls.node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(target).rpartition(".")[2] in _DATACLASS_DECORATORS:
            return "dataclass"
    direct = {ast.unparse(base).split("[")[0] for base in cls.node.bases}
    if rules.dict_subclasses and direct & {"dict", "UserDict"}:
        return "dict"
    return "other"
