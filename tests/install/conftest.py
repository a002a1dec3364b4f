"""Fixtures of the installer's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.install.shelf import Shelf, fill


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A filled shelf, and a pip that knows nothing else: no index, no configuration of this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "shelf"
    path.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("NEXUS_PIP_EXTRA_INDEX", raising=False)
    filled = Shelf(path)
    fill(filled)
    return filled
