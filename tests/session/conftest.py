"""A project whose engine is the fake one, and the real command lines run in it as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.record.journal import read_journal
from nexus_orch.testing import FakeEngine, write_fake_plugin

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 60.0
"""Only a bound for a test that hangs; nothing waits for it."""


@dataclass
class Desk:
    """A user's folder with a project in it."""

    folder: Path
    home: Path
    port: int
    base: tuple[str, ...] = ("hardware=cpu", "model=qwen0_5b", "engine.kind=fake", "limits.stop_seconds=2")
    has_project: bool = True
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        """Start `nexus-run` on the fake engine, not waiting for it."""
        return subprocess.Popen(
            self._argv(overrides),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *overrides: str, patience_seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.call(self._argv(overrides), patience_seconds=patience_seconds)

    def nexus(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any command of `nexus`."""
        return self.call([str(BIN / "nexus"), *arguments])

    def call(self, argv: list[str], *, patience_seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        """Any program, in this desk's folder and environment."""
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=patience_seconds,
            check=False,
        )

    def _argv(self, overrides: tuple[str, ...]) -> list[str]:
        project = ["--project", str(self.folder)] if self.has_project else []
        return [str(BIN / "nexus-run"), *project, *self.base, *overrides]

    @property
    def run_folders(self) -> list[Path]:
        runs = self.home / "runs"
        return sorted(runs.iterdir()) if runs.is_dir() else []

    def journal(self, kind: type[Any]) -> list[Any]:
        """The entries of this kind in the newest run's journal; empty while there is none."""
        if not self.run_folders:
            return []
        entries = read_journal(self.run_folders[-1] / "journal.jsonl").entries
        return [entry for entry in entries if isinstance(entry, kind)]


@pytest.fixture
def desk(no_process_left: None, isolated_home: Path, tmp_path: Path, free_port: int) -> Desk:
    folder = tmp_path / "desk"
    (folder / "conf").mkdir(parents=True)
    write_fake_plugin(folder)
    return Desk(folder, isolated_home, free_port)


@pytest.fixture
def behave(desk: Desk) -> Callable[[FakeEngine], None]:
    """Make the desk's engine behave in some way."""

    def write(engine: FakeEngine) -> None:
        write_fake_plugin(desk.folder, engine)

    return write


def wait_for(condition: Callable[[], Any], what: str, patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of the condition; fails after a long time."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")
