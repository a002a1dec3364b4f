"""Two runs on a real process that behaves like vLLM: the second plans with what the first has measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexus_orch.record.learned import read_measurements
from nexus_orch.testing import FakeEngine
from tests.session.conftest import Desk
from tests.session.test_run import Behave

STOP = "probe.then=stop"
TOKENS = 23_552


def _plan(desk: Desk, *overrides: str) -> dict[str, Any]:
    done = desk.nexus("plan", "--project", str(desk.folder), *desk.base, *overrides, "--format", "json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _learned(plan: dict[str, Any]) -> list[str]:
    return [note for note in plan["prediction"]["notes"] if note.startswith("learned:")]


@pytest.fixture
def taught(desk: Desk, behave: Behave) -> Desk:
    """A desk on which the run was launched once."""
    behave(FakeEngine(kv_cache_tokens=TOKENS))
    done = desk.run(STOP)
    assert done.returncode == 0, done.stderr
    return desk


def test_the_next_plan_uses_what_was_measured_and_says_so(taught: Desk) -> None:
    plan = _plan(taught)
    assert plan["kv_cache_tokens"] == TOKENS
    (note,) = _learned(plan)
    assert note.startswith(f"learned: {TOKENS:,} tokens of KV cache (measured here on 20")
    assert "with vLLM 0.25.1" in note


def test_the_next_run_plans_with_it_too(taught: Desk) -> None:
    first = json.loads((taught.run_folders[-1] / "plan.json").read_text(encoding="utf-8"))
    assert first["kv_cache_tokens"] != TOKENS
    assert taught.run(STOP).returncode == 0
    second = json.loads((taught.run_folders[-1] / "plan.json").read_text(encoding="utf-8"))
    assert second["kv_cache_tokens"] == TOKENS
    assert len(read_measurements(taught.home / "learned.jsonl")[0]) == 1


def test_another_run_learns_nothing_from_it(taught: Desk) -> None:
    assert _learned(_plan(taught, "memory.kv_cache.size_gib=2")) == []
    assert _learned(_plan(taught, "model=qwen1_5b")) == []


def test_learning_can_be_switched_off(taught: Desk) -> None:
    taught.environ["NEXUS_LEARN"] = "0"
    assert _learned(_plan(taught)) == []
    before = (taught.home / "learned.jsonl").read_bytes()
    assert taught.run(STOP, "model.max_model_len=2048").returncode == 0
    assert (taught.home / "learned.jsonl").read_bytes() == before


def test_a_wrong_switch_is_told(taught: Desk) -> None:
    taught.environ["NEXUS_LEARN"] = "off"
    done = taught.nexus("plan", "--project", str(taught.folder), *taught.base)
    assert done.returncode == 2
    assert "NEXUS_LEARN = off" in done.stderr


def test_a_damaged_store_is_told_and_harms_nothing(taught: Desk) -> None:
    store = taught.home / "learned.jsonl"
    store.write_bytes(b'{"date": "2026-1\n' + store.read_bytes())
    plan = _plan(taught)
    assert plan["kv_cache_tokens"] == TOKENS
    assert any("1 damaged lines were left out" in note for note in plan["prediction"]["notes"])


def test_a_run_that_never_became_ready_teaches_nothing(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(completions="error"))
    assert desk.run(STOP, "limits.startup_stall_seconds=2").returncode == 4
    assert not (desk.home / "learned.jsonl").exists()


def test_a_store_that_cannot_be_written_does_not_harm_the_run(desk: Desk) -> None:
    (desk.home / "learned.jsonl").mkdir(parents=True)
    done = desk.run(STOP)
    assert done.returncode == 0, done.stderr
    assert "what was measured is not kept" in done.stdout
