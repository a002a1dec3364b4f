from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from nexus_orch.install.engines.environment import find_site_packages, remove_torn_installs, write_alias_metadata


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
