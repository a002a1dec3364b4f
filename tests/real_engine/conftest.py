"""The real vLLM on the CPU, as `nexus engine install cpu` makes it; tests use it in its place and never change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.session.conftest import Desk

REAL_HOME = os.environ.get("NEXUS_HOME")
"""Read before the fixtures move NEXUS_HOME away: the home that holds the engine."""


@pytest.fixture
def engine_desk(
    no_process_left: None, isolated_home: Path, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A user's empty folder, with the installed engine and model in an otherwise empty home."""
    with monkeypatch.context() as patched:
        if REAL_HOME is None:
            patched.delenv("NEXUS_HOME")
        else:
            patched.setenv("NEXUS_HOME", REAL_HOME)
        from nexus_orch.paths import engines_dir, models_dir

        engines, models = engines_dir(), models_dir()
    assert engines.is_dir(), "run `make engine-test`, which installs the engine first"
    isolated_home.mkdir()
    (isolated_home / "engines").symlink_to(engines)
    models.mkdir(exist_ok=True)
    (isolated_home / "models").symlink_to(models)
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, isolated_home, free_port, base=("hardware=cpu", "model=smollm2_135m"), has_project=False)
