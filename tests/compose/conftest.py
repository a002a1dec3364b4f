"""A user's project in a temporary folder, which is also the current folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.types import RunSpec


@dataclass(frozen=True)
class Project:
    """A project folder; `compose` and `problems` are run over it."""

    root: Path

    def write(self, path: str, *lines: str) -> Path:
        """Write a profile such as "memory/mine.yaml" into the project's conf folder."""
        file = self.root / "conf" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def compose(self, *overrides: str, plugin_conf_dirs: Sequence[Path] = ()) -> RunSpec:
        judge = load_plugins(self.root).judge
        return compose_run(overrides, project=self.root, plugin_conf_dirs=plugin_conf_dirs, judge=judge)

    def problems(self, *overrides: str) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            self.compose(*overrides)
        return caught.value.problems

    def problem(self, *overrides: str) -> Problem:
        problems = self.problems(*overrides)
        assert len(problems) == 1
        return problems[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project at ./lab of the current folder."""
    (tmp_path / "lab" / "conf").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path / "lab")
