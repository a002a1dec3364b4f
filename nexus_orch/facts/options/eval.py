"""Follow the code that fills vLLM's argument parser, as far as that is possible without running it.

Assignments, branches, loops over known values, and calls that pass a parser or a dictionary of keyword arguments are
followed; every `add_argument` on the way is collected. Everything else stays `Unknown`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nexus_orch.facts.options.expressions import NATIVE_ERRORS, Expressions, Frame
from nexus_orch.facts.options.tree import Module, SourceTree, bind
from nexus_orch.facts.options.values import (
    BUILTINS,
    METHODS,
    FlagsUnreadableError,
    FunctionValue,
    Parser,
    SuperValue,
    Unknown,
    Value,
)

_MAX_DEPTH = 40


@dataclass(frozen=True)
class Declaration:
    """One `add_argument` call."""

    parser: Parser
    names: tuple[str, ...]
    keywords: Mapping[str, Value]


@dataclass(frozen=True)
class _Returned:
    value: Value


Intrinsic = Callable[["Evaluator", ast.Call, Frame], Value]
"""A function of the source that is answered here instead of being followed."""


class Evaluator(Expressions):
    """Follows functions and collects the options that they declare in `declarations`, in order."""

    def __init__(self, tree: SourceTree, intrinsics: Mapping[str, Intrinsic]) -> None:
        super().__init__(tree)
        self.declarations: list[Declaration] = []
        self._intrinsics = intrinsics

    def call(self, function: FunctionValue, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
        """Follow the body of a function; its return value. Raises FlagsUnreadableError."""
        node = function.node
        if len(self._active) > _MAX_DEPTH or id(node) in self._active:
            raise FlagsUnreadableError(f"{node.name} calls itself")
        frame = Frame(function.module, owner=function.owner, receiver=function.receiver)
        self._bind_parameters(function, args, keywords, frame)
        self._active.add(id(node))
        try:
            returned = self._run(node.body, frame)
        finally:
            self._active.discard(id(node))
        return None if returned is None else returned.value

    def _bind_parameters(
        self, function: FunctionValue, args: Sequence[Value], keywords: Mapping[str, Value], frame: Frame
    ) -> None:
        parameters = function.node.args
        positional = [parameter.arg for parameter in (*parameters.posonlyargs, *parameters.args)]
        names = [*positional[len(positional) - len(parameters.defaults) :], *(arg.arg for arg in parameters.kwonlyargs)]
        for name, default in zip(names, (*parameters.defaults, *parameters.kw_defaults), strict=True):
            if default is not None:
                frame.names[name] = self.evaluate(default, Frame(function.module))
        bound = args if function.receiver is None else [function.receiver, *args]
        frame.names.update(zip(positional, bound, strict=False))
        frame.names.update(keywords)

    # Statements

    def _run(self, body: Iterable[ast.stmt], frame: Frame) -> _Returned | None:
        for statement in body:
            returned = self._step(statement, frame)
            if returned is not None:
                return returned
        return None

    def _step(self, statement: ast.stmt, frame: Frame) -> _Returned | None:
        match statement:
            case ast.Return(value=value):
                return _Returned(None if value is None else self.evaluate(value, frame))
            case ast.Expr(value=value):
                self.evaluate(value, frame)
            case ast.Assign(targets=targets, value=value):
                result = self.evaluate(value, frame)
                for target in targets:
                    self._assign(target, result, frame)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self.evaluate(value, frame), frame)
            case ast.AugAssign(target=target, op=op, value=value):
                self._assign(target, self.evaluate(ast.BinOp(target, op, value), frame), frame)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._delete(target, frame)
            case ast.If():
                return self._branch(statement, frame)
            case ast.For():
                return self._loop(statement, frame)
            case ast.With(body=body) | ast.Try(body=body):
                return self._run(body, frame)
            case ast.Import() | ast.ImportFrom():
                local = Module(frame.module.name, frame.module.path)
                bind(local, statement)
                frame.names.update({name: self.lookup(local, name) for name in local.names})
        return None

    def _branch(self, statement: ast.If, frame: Frame) -> _Returned | None:
        """The side that is taken; both when that depends on something unknown, so that no option is missed."""
        test = self.evaluate(statement.test, frame)
        if not isinstance(test, Unknown):
            return self._run(statement.body if test else statement.orelse, frame)
        self._run(statement.body, frame)
        self._run(statement.orelse, frame)
        return None

    def _loop(self, statement: ast.For, frame: Frame) -> _Returned | None:
        items = self.iterate(self.evaluate(statement.iter, frame))
        if items is None:
            if any(isinstance(node, ast.Attribute) and node.attr == "add_argument" for node in ast.walk(statement)):
                raise FlagsUnreadableError(f"options are declared in a loop over {ast.unparse(statement.iter)}")
            return None
        for item in items:
            self._assign(statement.target, item, frame)
            returned = self._run(statement.body, frame)
            if returned is not None:
                return returned
        return None

    def _assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        match target:
            case ast.Name(id=name):
                frame.names[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                items = self.iterate(value) or []
                if len(items) != len(targets):
                    items = [Unknown(inner) for inner in targets]
                for inner, item in zip(targets, items, strict=True):
                    self._assign(inner, item, frame)
            case ast.Subscript(value=container, slice=key):
                owner = self.evaluate(container, frame)
                if isinstance(owner, dict):
                    owner[self.evaluate(key, frame)] = value

    def _delete(self, target: ast.expr, frame: Frame) -> None:
        if isinstance(target, ast.Subscript):
            owner = self.evaluate(target.value, frame)
            if isinstance(owner, dict):
                owner.pop(self.evaluate(target.slice, frame), None)

    # Calls

    def call_expression(self, node: ast.Call, frame: Frame) -> Value:
        """Follow a call that may declare options; answer a few others; leave the rest unknown."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if name in self._intrinsics:
            return self._intrinsics[name](self, node, frame)
        if name == "super" and frame.owner is not None:
            return SuperValue(frame.owner, frame.receiver)
        if name.endswith("ArgumentParser"):
            return Parser()
        args = self.elements(node.args, frame)
        keywords = self._keywords(node.keywords, frame)
        if isinstance(node.func, ast.Attribute):
            return self._method_call(self.evaluate(node.func.value, frame), name, args, keywords, node)
        if name in BUILTINS:
            return self._native(BUILTINS[name], args, keywords, node)
        return self._follow(lambda: self.evaluate(node.func, frame), args, keywords, node)

    def _method_call(
        self, owner: Value, name: str, args: Sequence[Value], keywords: Mapping[str, Value], node: ast.Call
    ) -> Value:
        if isinstance(owner, Parser):
            return self._parser_call(owner, name, args, keywords)
        for kind, methods in METHODS.items():
            if isinstance(owner, kind):
                return self._native(getattr(owner, name), args, keywords, node) if name in methods else Unknown(node)
        return self._follow(lambda: self.attribute(owner, name), args, keywords, node)

    def _follow(
        self, find: Callable[[], Value], args: Sequence[Value], keywords: Mapping[str, Value], node: ast.Call
    ) -> Value:
        """Follow the function when it is given something that it may fill; it is not even looked for otherwise."""
        if not any(isinstance(value, Parser | dict) for value in (*args, *keywords.values())):
            return Unknown(node)
        function = find()
        return self.call(function, args, keywords) if isinstance(function, FunctionValue) else Unknown(node)

    def _native(
        self, function: Callable[..., Value], args: Sequence[Value], keywords: Mapping[str, Value], node: ast.Call
    ) -> Value:
        if any(isinstance(value, Unknown) for value in (*args, *keywords.values())) and function in BUILTINS.values():
            return Unknown(node)
        try:
            return function(*args, **keywords)
        except NATIVE_ERRORS:
            return Unknown(node)

    def _parser_call(self, parser: Parser, method: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
        if method == "add_argument":
            names = tuple(name for name in args if isinstance(name, str))
            if len(names) != len(args) or not names:
                before = self.declarations[-1].names[0] if self.declarations else "the start"
                raise FlagsUnreadableError(f"the option declared after {before} has a computed name")
            self.declarations.append(Declaration(parser, names, keywords))
        elif method in ("add_argument_group", "add_mutually_exclusive_group"):
            title = keywords.get("title", args[0] if args else None)
            return Parser(parser.command, title if isinstance(title, str) else parser.group)
        elif method == "add_parser":
            command = keywords.get("name", args[0] if args else None)
            return Parser(command if isinstance(command, str) else "?")
        elif method == "add_subparsers":
            return parser
        return None

    def _keywords(self, nodes: Sequence[ast.keyword], frame: Frame) -> dict[str, Value]:
        """Keyword arguments by name; what `**` unpacks from something unknown stands under "**"."""
        values: dict[str, Value] = {}
        for node in nodes:
            value = self.evaluate(node.value, frame)
            if node.arg is not None:
                values[node.arg] = value
            elif isinstance(value, dict):
                values.update(value)
            else:
                values["**"] = value
        return values
