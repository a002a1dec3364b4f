"""Whether an installed vLLM brings `vllm bench serve`, and which options it takes: read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_COMMAND = "entrypoints/cli/benchmark/serve.py"
_SOURCES = ("benchmarks/serve.py", "benchmarks/datasets.py", "benchmarks/datasets")


def read_bench_options(root: Path) -> frozenset[str] | None:
    """The options of `vllm bench serve`, with their dashes; None where this release has no such command.

    `root` is the folder of the package `vllm`. A source that cannot be read adds none.
    """
    if not (root / _COMMAND).is_file():
        return None
    return frozenset(name for path in _source_files(root) for name in _options_in(path))


def _source_files(root: Path) -> Iterator[Path]:
    for name in _SOURCES:
        path = root / name
        if path.is_dir():
            yield from sorted(path.glob("*.py"))
        elif path.is_file():
            yield path


def _options_in(path: Path) -> Iterator[str]:
    """The option strings that are given to any `add_argument` of a file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and str(argument.value).startswith("--"):
                    yield str(argument.value)
