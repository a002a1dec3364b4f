"""Hydra's launchers: jobs in other processes, which must be pickled on their way."""

from __future__ import annotations

import json

import pytest

from nexus_orch.sweep.run.journal import SweepJournal
from nexus_orch.sweep.types import LaunchEnded, Speed
from tests.session.conftest import Desk
from tests.session.test_search import SHORT

PATIENCE_SECONDS = 240.0


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_every_point_is_done_by_another_process(desk: Desk, launcher: str) -> None:
    own = ("hydra.launcher.n_jobs=1",) if launcher == "joblib" else ()
    done = desk.run(
        *("-m", "hydra/sweeper=basic", f"hydra/launcher={launcher}", *own, "model.max_model_len=1024,100000000"),
        patience_seconds=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "PicklingError" not in done.stderr
    (summary,) = (desk.home / "sweeps").rglob("summary.json")
    points = json.loads(summary.read_text(encoding="utf-8"))["points"]
    assert [point["outcome"] for point in points] == ["served", "does_not_fit"]


def test_a_search_by_another_process(desk: Desk) -> None:
    done = desk.run(
        *("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "serve.max_num_seqs=4,8", *SHORT),
        patience_seconds=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "pick: point" in done.stdout
    (folder,) = (desk.home / "sweeps").iterdir()
    outcomes = SweepJournal(folder).outcomes()
    assert sum(isinstance(outcome, LaunchEnded) for outcome in outcomes) == 2
    assert any(isinstance(outcome, Speed) for outcome in outcomes)
