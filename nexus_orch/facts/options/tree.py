"""The source files of an installed package, parsed one by one when a name in them is first asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef | ast.expr
"""What a name stands for: a class, a function, or the expression that was assigned to it."""


@dataclass(frozen=True)
class Import:
    """`from module import name as ...`; `name` is None for `import module`, "*" for a star import."""

    module: str
    name: str | None


@dataclass
class Module:
    """One parsed file. `names` maps each top-level name to its definition or to where it is imported from."""

    name: str
    path: Path
    names: dict[str, Definition | Import] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    @property
    def package(self) -> str:
        """The package that relative imports in this module start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Found:
    """A definition with the module whose names it uses."""

    module: Module
    name: str
    node: Definition


class SourceTree:
    """The package in the folder `root`, whose import name is the folder's name.

    Nothing is imported or run. `module` raises SyntaxError, UnicodeDecodeError or OSError for a file that cannot be
    read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root.name
        self._modules: dict[str, Module | None] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were read so far."""
        return tuple(module.path for module in self._modules.values() if module is not None)

    def module(self, name: str) -> Module | None:
        """The module of that dotted name, or None when it is not a file of this package."""
        if name not in self._modules:
            path = self._path(name)
            self._modules[name] = None if path is None else _read_module(name, path)
        return self._modules[name]

    def find(self, module: Module, name: str) -> Found | None:
        """The definition behind a name as this module sees it, through imports; None when it lies elsewhere."""
        seen: set[tuple[str, str]] = set()
        while (module.name, name) not in seen:
            seen.add((module.name, name))
            entry = module.names.get(name)
            if isinstance(entry, Import):
                target, wanted = self.module(entry.module), entry.name
                if target is None or wanted is None:
                    return None
                module, name = target, wanted
            elif entry is not None:
                return Found(module, name, entry)
            else:
                return self._find_in_stars(module, name)
        return None

    def find_module(self, module: Module, name: str) -> Module | None:
        """The module that a name stands for (`import vllm.envs as envs`, `from vllm import envs`)."""
        entry = module.names.get(name)
        if not isinstance(entry, Import):
            return None
        if entry.name is None:
            return self.module(entry.module)
        return self.module(f"{entry.module}.{entry.name}")

    def _find_in_stars(self, module: Module, name: str) -> Found | None:
        for star in module.stars:
            target = self.module(star)
            found = None if target is None else self.find(target, name)
            if found is not None:
                return found
        return None

    def _path(self, name: str) -> Path | None:
        first, *rest = name.split(".")
        if first != self.package:
            return None
        base = self.root.joinpath(*rest)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
        return None


def _read_module(name: str, path: Path) -> Module:
    module = Module(name, path)
    source = path.read_bytes()
    if b"\0" in source:  # ast.parse tells neither file nor line
        raise SyntaxError("null bytes", (str(path), source.count(b"\n", 0, source.index(b"\0")) + 1, None, None))
    for statement in _top_level(ast.parse(source, str(path)).body):
        bind(module, statement)
    return module


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run on import. TYPE_CHECKING is false then; of other conditions both sides are read."""
    for statement in body:
        if isinstance(statement, ast.If):
            is_typing = ast.unparse(statement.test).endswith("TYPE_CHECKING")
            yield from _top_level(statement.orelse if is_typing else [*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handlers = [inner for handler in statement.handlers for inner in handler.body]
            yield from _top_level([*handlers, *statement.body])
        else:
            yield statement


def bind(module: Module, statement: ast.stmt) -> None:
    """Enter the names that one statement defines."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            module.names[name] = statement
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            module.names[name] = value
        case ast.Import(names=aliases):
            for alias in aliases:
                target = alias.name if alias.asname else alias.name.split(".")[0]
                module.names[alias.asname or target] = Import(target, None)
        case ast.ImportFrom(module=source, names=aliases, level=level):
            origin = _absolute(source, level, module.package)
            for alias in aliases:
                if alias.name == "*":
                    module.stars.append(origin)
                else:
                    module.names[alias.asname or alias.name] = Import(origin, alias.name)


def _absolute(source: str | None, level: int, package: str) -> str:
    if level == 0:
        return source or ""
    base = package.split(".")[: len(package.split(".")) - (level - 1)]
    return ".".join([*base, *([source] if source else [])])
