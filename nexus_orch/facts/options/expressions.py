"""Evaluate expressions of a package's source: literals, names through imports, attributes, operators."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nexus_orch.facts.options.tree import Found, Module, SourceTree
from nexus_orch.facts.options.values import (
    BUILTINS,
    KNOWN,
    ClassValue,
    EnumMember,
    FunctionValue,
    ModuleValue,
    SuperValue,
    Unknown,
    Value,
)

NATIVE_ERRORS = (TypeError, ValueError, KeyError, IndexError, AttributeError)
"""What a plain operation raises on operands that were not fully known."""

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Value, Value], Value]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}

_BINARY: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}


@dataclass
class Frame:
    """The names that one piece of code sees; `owner` and `receiver` are those of the method it belongs to."""

    module: Module
    names: dict[str, Value] = field(default_factory=dict)
    owner: ClassValue | None = None
    receiver: Value = None


class Expressions:
    """Evaluates expressions; what it cannot tell becomes `Unknown` with its source text. Never raises for that."""

    def __init__(self, tree: SourceTree) -> None:
        self.tree = tree
        self._active: set[int] = set()
        """Constants and functions that are being evaluated: guards against definitions that need themselves."""

    def evaluate(self, node: ast.expr, frame: Frame) -> Value:  # noqa: PLR0911 - one for each kind of expression
        """The value of an expression."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return frame.names[name] if name in frame.names else self.lookup(frame.module, name)
            case ast.Attribute(value=owner, attr=name):
                return self.attribute(self.evaluate(owner, frame), name)
            case ast.Call():
                return self.call_expression(node, frame)
            case ast.List(elts=elements):
                return self.elements(elements, frame)
            case ast.Tuple(elts=elements):
                return tuple(self.elements(elements, frame))
            case ast.Set(elts=elements):
                return _native(lambda: set(self.elements(elements, frame)), node)
            case ast.Dict():
                return self._dictionary(node, frame)
            case ast.JoinedStr(values=parts):
                return self._joined(parts, node, frame)
            case ast.Subscript(value=owner, slice=key):
                return self._subscript(self.evaluate(owner, frame), key, node, frame)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return self._comprehension(node, frame)
        return self._operation(node, frame)

    def call_expression(self, node: ast.Call, frame: Frame) -> Value:
        """The value of a call; here always unknown, `Evaluator` follows those that declare options."""
        return Unknown(node)

    def elements(self, nodes: Sequence[ast.expr], frame: Frame) -> list[Value]:
        """The values of list elements or arguments, starred ones unpacked."""
        values: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items = self.iterate(self.evaluate(node.value, frame))
                values.extend([Unknown(node)] if items is None else items)
            else:
                values.append(self.evaluate(node, frame))
        return values

    def iterate(self, value: Value) -> list[Value] | None:
        """The items of a value in order, or None when they are not known. A class of enum members gives its members."""
        if isinstance(value, ClassValue) and self.is_enum(value):
            names = [
                target.id
                for statement in value.node.body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            ]
            return [self.attribute(value, name) for name in names]
        if isinstance(value, list | tuple | set | dict | str) or type(value).__name__ in ("dict_items", "dict_keys"):
            return list(value)
        return None

    def lookup(self, module: Module, name: str) -> Value:
        """What a name means at the top level of a module."""
        found = self.tree.find(module, name)
        if found is None:
            source = self.tree.find_module(module, name)
            return Unknown(name) if source is None else ModuleValue(source)
        node = found.node
        if isinstance(node, ast.ClassDef):
            return ClassValue(found.module, node)
        if isinstance(node, ast.FunctionDef):
            return FunctionValue(found.module, node)
        return self._constant(found, node)

    def _constant(self, found: Found, node: ast.expr) -> Value:
        if id(node) in self._active or isinstance(node, ast.Subscript):  # `X = Literal[...]` is a type, not a value
            return Unknown(found.name)
        self._active.add(id(node))
        try:
            return self.evaluate(node, Frame(found.module))
        finally:
            self._active.discard(id(node))

    def attribute(self, value: Value, name: str) -> Value:  # noqa: PLR0911 - one for each kind of value
        """The attribute of a value; `Unknown` when it has none that can be told."""
        match value:
            case ModuleValue(module=module):
                member = self.lookup(module, name)
                return Unknown(f"{module.name.rpartition('.')[2]}.{name}") if isinstance(member, Unknown) else member
            case ClassValue(node=node) if name == "__name__":
                return node.name
            case ClassValue():
                return self._member(value, name, value)
            case SuperValue(owner=owner, receiver=receiver):
                return self._inherited(owner, name, receiver)
            case EnumMember() if name in ("name", "value"):
                return value.name if name == "name" else value.value
            case Unknown():
                text = f"{value.text}.{name}"
                return KNOWN.get(text, Unknown(text))
        return Unknown(name)

    def bases(self, cls: ClassValue) -> list[ClassValue]:
        """The base classes that lie in the package."""
        values = [self.evaluate(base, Frame(cls.module)) for base in cls.node.bases]
        return [value for value in values if isinstance(value, ClassValue)]

    def is_enum(self, cls: ClassValue) -> bool:
        """True for subclasses of enum's classes, directly or through the package."""
        direct = any(ast.unparse(base).rpartition(".")[2].endswith("Enum") for base in cls.node.bases)
        return direct or any(self.is_enum(base) for base in self.bases(cls))

    def _member(self, cls: ClassValue, name: str, receiver: Value) -> Value:
        for statement in cls.node.body:
            match statement:
                case ast.FunctionDef(name=found, decorator_list=decorators) if found == name:
                    is_static = any(ast.unparse(decorator) == "staticmethod" for decorator in decorators)
                    return FunctionValue(cls.module, statement, cls, None if is_static else receiver)
                case (
                    ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value)
                    | ast.Assign(targets=[ast.Name(id=found)], value=value)
                ) if found == name:
                    result = self.default(value, cls.module)
                    return EnumMember(name, result) if self.is_enum(cls) else result
        return self._inherited(cls, name, receiver)

    def _inherited(self, cls: ClassValue, name: str, receiver: Value) -> Value:
        for base in self.bases(cls):
            found = self._member(base, name, receiver)
            if not isinstance(found, Unknown):
                return found
        return Unknown(f"{cls.node.name}.{name}")

    def default(self, node: ast.expr, module: Module) -> Value:
        """The default that a field's right-hand side means: `1`, `field(default=1)`, `Field(default_factory=list)`."""
        frame = Frame(module)
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("field", "Field")):
            return self.evaluate(node, frame)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if "default" in keywords or node.args:
            return self.evaluate(keywords["default"] if "default" in keywords else node.args[0], frame)
        factory = keywords.get("default_factory")
        if isinstance(factory, ast.Lambda):
            return self.evaluate(factory.body, frame)
        if isinstance(factory, ast.Name) and factory.id in BUILTINS and factory.id not in module.names:
            return BUILTINS[factory.id]()
        return Unknown(node) if factory is None else Unknown(f"{ast.unparse(factory)}()")

    def _dictionary(self, node: ast.Dict, frame: Frame) -> Value:
        result: dict[Value, Value] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            item = self.evaluate(value, frame)
            if key is not None:
                result[self.evaluate(key, frame)] = item
            elif isinstance(item, dict):
                result.update(item)
            else:
                return Unknown(node)
        return result

    def _joined(self, parts: Sequence[ast.expr], node: ast.expr, frame: Frame) -> Value:
        texts: list[str] = []
        for part in parts:
            value = self.evaluate(part.value if isinstance(part, ast.FormattedValue) else part, frame)
            if not isinstance(value, str | int):
                return Unknown(node)
            texts.append(str(value))
        return "".join(texts)

    def _subscript(self, owner: Value, key: ast.expr, node: ast.expr, frame: Frame) -> Value:
        if not isinstance(owner, dict | list | tuple | str):
            return Unknown(node)
        if isinstance(key, ast.Slice):
            bounds = [None if bound is None else self.evaluate(bound, frame) for bound in (key.lower, key.upper)]
            return _native(lambda: owner[slice(*bounds)], node)
        index = self.evaluate(key, frame)
        return _native(lambda: owner[index], node)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, frame: Frame) -> Value:
        generator = node.generators[0]
        items = self.iterate(self.evaluate(generator.iter, frame))
        if items is None or len(node.generators) > 1 or not isinstance(generator.target, ast.Name):
            return Unknown(node)
        values: list[Value] = []
        for item in items:
            inner = Frame(frame.module, {**frame.names, generator.target.id: item}, frame.owner, frame.receiver)
            tests = [self.evaluate(test, inner) for test in generator.ifs]
            if any(isinstance(test, Unknown) for test in tests):
                return Unknown(node)
            if all(tests):
                values.append(self.evaluate(node.elt, inner))
        return values

    def _operation(self, node: ast.expr, frame: Frame) -> Value:  # noqa: PLR0911 - one for each kind of operation
        match node:
            case ast.BinOp(left=left, op=binary, right=right) if type(binary) in _BINARY:
                compute = _BINARY[type(binary)]
                first, second = self.evaluate(left, frame), self.evaluate(right, frame)
                return _native(lambda: compute(first, second), node)
            case ast.Compare(left=left, ops=[comparison], comparators=[right]) if type(comparison) in _COMPARISONS:
                compute = _COMPARISONS[type(comparison)]
                first, second = self.evaluate(left, frame), self.evaluate(right, frame)
                if isinstance(first, Unknown) or isinstance(second, Unknown):
                    return Unknown(node)
                return _native(lambda: compute(first, second), node)
            case ast.UnaryOp(op=unary, operand=operand):
                value = self.evaluate(operand, frame)
                if isinstance(value, Unknown):
                    return Unknown(node)
                if isinstance(unary, ast.Not):
                    return not value
                return -value if isinstance(unary, ast.USub) and isinstance(value, int | float) else Unknown(node)
            case ast.BoolOp(op=joiner, values=operands):
                return self._boolean(joiner, operands, node, frame)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                chosen = self.evaluate(test, frame)
                return (
                    Unknown(node) if isinstance(chosen, Unknown) else self.evaluate(body if chosen else orelse, frame)
                )
        return Unknown(node)

    def _boolean(self, op: ast.boolop, operands: Sequence[ast.expr], node: ast.expr, frame: Frame) -> Value:
        value: Value = None
        for operand in operands:
            value = self.evaluate(operand, frame)
            if isinstance(value, Unknown):
                return Unknown(node)
            if bool(value) is isinstance(op, ast.Or):
                return value
        return value


def _native(compute: Callable[[], Value], node: ast.expr) -> Value:
    """The result of a plain Python operation; `Unknown` when its operands were not what they seemed."""
    try:
        return compute()
    except NATIVE_ERRORS:
        return Unknown(node)
