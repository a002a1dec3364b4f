"""Releases are compared in one place: no other module of nexus_orch and its plugins holds a version of vLLM."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ALLOWED = (
    "nexus_orch/releases/",
    "nexus_orch/adapt/settings",  # the table of settings
    "nexus_orch/__init__.py",  # our own version
    "nexus_orch/testing/engine.py",  # the release that the fake engine plays, unless it is told another
)

RELEASE = r"0\.(?:[4-9]|[1-9]\d)(?:\.\d+)?(?:\.?(?:post|rc|dev)\d+)?"
WHOLE = re.compile(rf"\s*(?:[<>=!~]+\s*)?{RELEASE}(?:\.\*)?(?:\s*,\s*[<>=!~]+\s*{RELEASE})*\s*")
"""A string that is a version or a specifier: "0.22", ">=0.8,<0.20"."""
IN_A_SENTENCE = re.compile(
    r"(?<![\w.])0\.(?:[4-9]|[1-9]\d)\.\d+(?![\w.]*\.\d)"
    rf"|(?:vLLM|before|since|until|from) {RELEASE}|{RELEASE} and (?:later|earlier)|[<>]=?{RELEASE}"
)
CALLS = {"Version", "SpecifierSet", "parse_release", "release_of"}


def find_literals(text: str) -> Iterator[str]:
    """The releases that a module's code holds; docstrings and comments, which tell sources, do not count."""
    tree = ast.parse(text)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(value)) if id(node) not in told:
                if WHOLE.fullmatch(value) or IN_A_SENTENCE.search(value):
                    yield f"line {node.lineno}: {value}"
            case ast.Call(func=ast.Name(id=name), args=given) if name in CALLS:
                yield from (f"line {node.lineno}: {name}(...)" for value in given if _is_digits(value))


def _is_digits(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and bool(re.search(r"\d", str(node.value)))


def modules() -> Iterator[tuple[str, str]]:
    """Name and text of each module of the project and its plugins outside of `ALLOWED`."""
    for file in sorted([*(ROOT / "nexus_orch").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        name = file.relative_to(ROOT).as_posix()
        if not name.startswith(ALLOWED):
            yield name, file.read_text(encoding="utf-8")


def test_no_other_module_holds_a_release() -> None:
    found = [f"{name}, {literal}" for name, text in modules() for literal in find_literals(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'SINCE = "0.22"',
        'if version < Version("1.2"): pass',
        'releases = ">=0.8,<0.20"',
        'reason = f"{name} has none (0.19.1 and later have)"',
        'reason = "use vLLM 0.14 or later"',
        'reason = "before 0.8 there was none"',
    ],
)
def test_what_counts_as_a_release(text: str) -> None:
    assert list(find_literals(text))


@pytest.mark.parametrize(
    "text",
    [
        '"""Seen in 0.22.1."""',
        "share = 0.92",
        'host = "127.0.0.1"',
        'line = "took 0.89 GiB"',
        "x = 1  # from 0.22.1 on",
    ],
)
def test_what_does_not(text: str) -> None:
    assert not list(find_literals(text))
