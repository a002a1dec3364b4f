"""Which models a release of vLLM can run: the architectures that its registry names, installed or of the catalogue."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nexus_orch import data
from nexus_orch.releases.known import known_releases, neighbours

FILE = "vllm_architectures.json"

_REGISTRIES = ("registry.py", "__init__.py")
"""Where the registry lies in vllm/model_executor/models: 0.6.6 and later, and before."""

_WHOLE = ("_VLLM_MODELS", "_MODELS")
"""The table that joins the others, `{**_TEXT_GENERATION_MODELS, ...}`: 0.6.6 and later, and before."""


def find_registry(root: Path) -> Path | None:
    """The file of the package `vllm` in `root` that lists the architectures, or None."""
    folder = root / "model_executor" / "models"
    return next((folder / name for name in _REGISTRIES if (folder / name).is_file()), None)


def read_architectures(root: Path) -> frozenset[str] | None:
    """The architectures that the sources in `root` name; None when they cannot be read or name none."""
    file = find_registry(root)
    if file is None:
        return None
    try:
        body = ast.parse(file.read_bytes(), str(file)).body
    except (OSError, SyntaxError, ValueError):
        return None
    tables = dict(_tables(body))
    whole = next((tables[name] for name in _WHOLE if name in tables), ast.Dict([], []))
    parts = [part.id for part in whole.values if isinstance(part, ast.Name)]
    return frozenset(name for part in parts if part in tables for name in _names(tables[part])) or None


def _tables(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.Dict]]:
    for statement in body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict() as table)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as table)
            ):
                yield name, table


def _names(table: ast.Dict) -> Iterator[str]:
    """The keys of one table such as `{"LlamaForCausalLM": ("llama", "LlamaForCausalLM"), ...}`."""
    yield from (key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


@cache
def catalogue_architectures(version: str) -> frozenset[str]:
    """The architectures of this release. Between two releases that were read, those of either: which of the two names
    came first is not known."""
    around = {known_releases().index(release) for release in neighbours(version)}
    known = data.load(FILE)["architectures"]
    return frozenset(
        name
        for name, spans in known.items()
        if any(first <= at and (last is None or at <= last) for first, last in spans for at in around)
    )


def releases_with_architecture(name: str) -> tuple[str, ...]:
    """The releases whose registry names the architecture, oldest first."""
    return tuple(release for release in known_releases() if name in catalogue_architectures(release))


def make_architecture_catalogue(found: Mapping[str, frozenset[str]], releases: Sequence[str]) -> dict[str, Any]:
    """The content of the catalogue file; `found` holds the architectures of each of the releases, oldest first."""
    names = sorted({name for release in releases for name in found[release]})
    return {
        "about": "Architectures in the model registry of each release; pairs are first and last position in releases, "
        "null where it is still there.",
        "source": "Read from vllm/model_executor/models of the released source archives.",
        "releases": list(releases),
        "architectures": {name: _spans([name in found[release] for release in releases]) for name in names},
    }


def _spans(history: Sequence[bool]) -> list[list[int | None]]:
    spans: list[list[int | None]] = []
    was_there = False
    for index, is_there in enumerate(history):
        if is_there and not was_there:
            spans.append([index, None])
        elif was_there and not is_there:
            spans[-1][1] = index - 1
        was_there = is_there
    return spans
