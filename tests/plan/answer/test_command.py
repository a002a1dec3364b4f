"""`nexus plan` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nexus_orch.cli import main

CARD = ("hardware=rtx4090", "model=qwen7b")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("NEXUS_PROJECT", raising=False)


def test_alternatives_are_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *CARD, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["prediction"]["alternatives"]
    assert "model=qwen7b_awq" in [entry["change"] for entry in found]
    assert main(["plan", *CARD, "--format", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["prediction"]["alternatives"] == found
    assert main(["plan", *CARD]) == 0
    text = capsys.readouterr().out
    assert "alternatives\n  1. model=qwen7b_awq" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_would_fit_is_said_when_nothing_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "hardware=rtx4090x2", "model=qwen32b", "memory=vram_only"]) == 3
    text = capsys.readouterr().out
    assert "what would fit" in text
    assert "memory.strategy=hybrid" in text
    assert "model=qwen32b_awq" in text


def test_what_the_engine_refuses_is_not_said_to_need_more_room(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *CARD, "engine.version=0.25.1", "memory.swap_gib=4"]) == 2
    text = capsys.readouterr().out
    assert text.startswith("refused: ")
    assert "what would fit" not in text


def test_a_mistake_that_planner_and_adapter_find_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *CARD, "memory.kv_cache.dtype=float32", "--format", "json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["cause"] for problem in problems] == ["unsupported_dtype"]


def test_an_alternative_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    request = ["plan", "hardware=rtx4090x2", "model=qwen32b", "memory=vram_only", "--format", "json"]
    assert main(request) == 3
    for entry in json.loads(capsys.readouterr().out)["prediction"]["alternatives"]:
        kept = [word for word in request if word.split("=")[0] not in {o.split("=")[0] for o in entry["overrides"]}]
        assert main([*kept, *entry["overrides"]]) == 0, entry["change"]
        assert json.loads(capsys.readouterr().out)["kv_cache_tokens"] == entry["kv_cache_tokens"]


@pytest.mark.slow
def test_the_guide_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--guide", "--format", "json"]) == 0
    guide = json.loads(capsys.readouterr().out)
    assert set(guide) == {"engine_version", "sizes", "breakdown", "recommended", "offload"}
    assert main(["plan", "--guide", "--format", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == guide
    assert main(["plan", "--guide"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_guide_takes_no_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--guide", *CARD]) == 2
    assert "takes no overrides" in capsys.readouterr().err
