"""The real vLLM on the CPU, as `nexus engine install cpu` makes it; tests use it in its place and never change it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from nexus_orch import paths
from nexus_orch.install.engines.installed import Engine, read_engines
from tests.session.conftest import Desk


@dataclass(frozen=True)
class Home:
    """The folders of the user who runs the tests, and the engines in them."""

    engines_folder: Path
    models_folder: Path
    cache: Path
    engines: tuple[Engine, ...]


REAL_HOME = Home(paths.engines_dir(), paths.models_dir(), paths.cache_dir(), read_engines())
"""Read before the fixtures move NEXUS_HOME away."""


@pytest.fixture(scope="session")
def real_home() -> Home:
    assert REAL_HOME.engines, "run `make engine-test` or `make engine-matrix`, which install the engines first"
    return REAL_HOME


@pytest.fixture
def engine_desk(no_process_left: None, isolated_home: Path, tmp_path: Path, free_port: int, real_home: Home) -> Desk:
    """A user's empty folder, with the installed engines and models in an otherwise empty home."""
    isolated_home.mkdir()
    (isolated_home / "engines").symlink_to(real_home.engines_folder)
    real_home.models_folder.mkdir(exist_ok=True)
    (isolated_home / "models").symlink_to(real_home.models_folder)
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, isolated_home, free_port, base=("hardware=cpu", "model=smollm2_135m"), has_project=False)
