"""One word, one thing: no public class name stands in two modules, and the glossary's words are those of the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ROOT / "nexus_orch"
GLOSSARY = ROOT / "docs" / "glossary.md"
ROW = re.compile(
    r"^\| (?P<word>[\w ()]+) \| (?P<meaning>.+) \| `(?P<file>[\w/]+\.py): (?P<name>\w+)` \|$", re.MULTILINE
)
ROWS = {row["word"]: row for row in ROW.finditer(GLOSSARY.read_text(encoding="utf-8"))}


def _modules() -> Iterator[Path]:
    yield from CODE.rglob("*.py")
    yield from (ROOT / "plugins").glob("*.py")


def _names(module: ast.Module) -> set[str]:
    """What a module defines at its top: classes, functions, constants and type aliases."""
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_no_public_class_name_stands_in_two_modules() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in _modules():
        for node in _parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path.relative_to(ROOT).as_posix())
    told = [
        f"{name} stands in {' and '.join(sorted(files))}" for name, files in sorted(homes.items()) if len(files) > 1
    ]
    assert not told, "\n".join(told)


def test_the_glossary_has_its_words_in_order() -> None:
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 1, "a row of docs/glossary.md is not of the form | word | meaning | `file: name` |"
    assert len(ROWS) >= 30
    assert list(ROWS) == sorted(ROWS)


@pytest.mark.parametrize("word", ROWS)
def test_each_word_of_the_glossary_is_defined_and_used(word: str) -> None:
    row = ROWS[word]
    home = CODE / row["file"]
    assert home.is_file(), f"docs/glossary.md: {word}: there is no nexus_orch/{row['file']}"
    assert row["name"] in _names(_parse(home)), f"docs/glossary.md: {word}: {row['file']} does not define {row['name']}"
    used = re.compile(rf"\b{row['name']}\b")
    users = [path for path in _modules() if path != home and used.search(path.read_text(encoding="utf-8"))]
    assert users, f"docs/glossary.md: {word}: nothing uses {row['name']} of {row['file']}"
