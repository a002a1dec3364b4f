"""`nexus calibrate` on a real process that behaves like vLLM."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.record.events import Launched
from nexus_orch.testing import FakeEngine
from tests.session.conftest import BIN, Desk, wait_for
from tests.session.test_run import Behave

TOKENS = 23_552
OVERRIDES = ("hardware=cpu", "engine.kind=fake", "limits.stop_seconds=2")


def _calibrate(desk: Desk, *arguments: str) -> tuple[int, str, str]:
    done = desk.nexus("calibrate", "--project", str(desk.folder), *OVERRIDES, *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def slow_desk(desk: Desk, behave: Behave) -> Desk:
    behave(FakeEngine(kv_cache_tokens=TOKENS, tokens_per_second=400.0))
    return desk


def test_two_cache_sizes_are_launched_compared_and_learned(slow_desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    code, table, progress = _calibrate(slow_desk, "model=qwen0_5b", "--out", str(out))
    assert code == 0, progress
    document: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    first, second = document["launches"]
    assert [launch["overrides"][-1] for launch in (first, second)] == [
        "memory.kv_cache.size_gib=1",
        "memory.kv_cache.size_gib=2",
    ]
    for launch in (first, second):
        assert launch["outcome"] == "measured"
        assert launch["measured"]["kv_cache_tokens"] == TOKENS
        assert launch["learned"]["kv_cache_tokens"] == TOKENS
        assert launch["errors"]["kv_cache_tokens"]["absolute"] == launch["predicted"]["kv_cache_tokens"] - TOKENS
        assert 0 < launch["measured"]["tokens_per_second"] < 1000
    assert first["predicted"]["kv_cache_tokens"] < second["predicted"]["kv_cache_tokens"]
    assert f"{TOKENS:,}" in table and "KV tokens" in table
    assert "calibrating: qwen0_5b" in progress
    assert len(slow_desk.run_folders) == 2


def test_a_second_calibration_does_not_predict_what_it_has_learned(slow_desk: Desk) -> None:
    one = ("model=qwen0_5b", "memory.kv_cache.size_gib=1", "--format", "json")
    first, second = (json.loads(_calibrate(slow_desk, *one)[1])["launches"] for _ in range(2))
    assert len(first) == 1
    assert first[0]["predicted"]["kv_cache_tokens"] == second[0]["predicted"]["kv_cache_tokens"] != TOKENS


def test_models_one_after_another_as_markdown(slow_desk: Desk) -> None:
    models = ("--models", "qwen0_5b,qwen72b", "--format", "md", "memory.kv_cache.size_gib=1")
    code, table, progress = _calibrate(slow_desk, *models)
    assert code == 3, progress
    assert table.count("| qwen0_5b ") == 1 and "| KV tokens" in table
    assert "qwen72b" in table and "does not fit: host_oom" in table


def test_a_launch_that_fails_is_told_and_the_next_one_made(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(fails="host_oom"))
    code, table, _ = _calibrate(desk, "model=qwen0_5b")
    assert code == 4
    assert table.count(": failed: ") == 2
    assert len(desk.run_folders) == 2


def test_an_interrupt_ends_it_and_keeps_what_there_is(desk: Desk, behave: Behave, tmp_path: Path) -> None:
    behave(FakeEngine(stall_at="loading"))
    out = tmp_path / "calibration.json"
    argv = [
        str(BIN / "nexus"),
        "calibrate",
        "--project",
        str(desk.folder),
        *OVERRIDES,
        "model=qwen0_5b",
        f"--out={out}",
    ]
    running = subprocess.Popen(argv, cwd=desk.folder, env=desk.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: desk.journal(Launched), "the launch")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    (launch,) = json.loads(out.read_text(encoding="utf-8"))["launches"]
    assert launch["outcome"] == "interrupted"
    assert len(desk.run_folders) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("model=qwen0_5b", "--models", "qwen7b"), "two ways to name the model"),
        (("--models", ","), "no model is named"),
        (("--models", "qwen0_5b,qwen7bb"), "qwen7b"),
        (("--out", "/nowhere/at/all/file.json"), "the result cannot be written there"),
        (("serve.prt=1",), "serve.port"),
    ],
)
def test_mistakes_are_told_before_anything_is_launched(desk: Desk, arguments: tuple[str, ...], told: str) -> None:
    code, _, errors = _calibrate(desk, *arguments)
    assert code == 2
    assert told in errors and "Traceback" not in errors
    assert desk.run_folders == []
