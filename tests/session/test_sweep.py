"""A sweep with Hydra's own sweeper: what cannot fit is not launched, a failed point does not end it."""

from __future__ import annotations

import json
import signal

from nexus_orch.testing import FakeEngine, write_fake_plugin
from tests.session.conftest import Desk, wait_for

BASIC = "hydra/sweeper=basic"


def test_points_one_after_another_with_a_table_and_a_file(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(max_context=3000))
    done = desk.run("-m", BASIC, "model.max_model_len=2048,4096,100000000")
    assert done.returncode == 0, done.stderr
    (summary,) = (desk.home / "sweeps").rglob("summary.json")
    points = json.loads(summary.read_text(encoding="utf-8"))["points"]
    assert [point["outcome"] for point in points] == ["served", "failed", "does_not_fit"]
    assert points[0]["measured"]["tokens_per_second"] > 0
    assert points[1]["cause"] == "context_too_long"
    assert points[2]["cause"] == "context_exceeds_model"
    assert len(desk.run_folders) == 2
    assert str(summary) in done.stdout
    assert "context_too_long" in done.stdout


def test_a_bad_point_is_told_and_the_others_run(desk: Desk) -> None:
    done = desk.run("-m", BASIC, "model.max_model_len=-5,2048")
    (summary,) = (desk.home / "sweeps").rglob("summary.json")
    points = json.loads(summary.read_text(encoding="utf-8"))["points"]
    assert [point["outcome"] for point in points] == ["bad_config", "served"]
    assert done.returncode == 0


def test_the_flag_may_stand_anywhere(desk: Desk) -> None:
    done = desk.run("model.max_model_len=2048,4096", "--multirun", "probe.max_tokens=8", BASIC)
    assert done.returncode == 0, done.stderr
    assert len(desk.run_folders) == 2


def test_ctrl_c_ends_the_whole_sweep(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(tokens_per_second=1))
    process = desk.start("-m", BASIC, "model.max_model_len=2048,4096,8192")
    wait_for(lambda: '"ready"' in desk.nexus("ps", "--format", "json").stdout, "the first point")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert len(desk.run_folders) == 1
    (summary,) = (desk.home / "sweeps").rglob("summary.json")
    points = json.loads(summary.read_text(encoding="utf-8"))["points"]
    assert [point["outcome"] for point in points] == ["interrupted"]
