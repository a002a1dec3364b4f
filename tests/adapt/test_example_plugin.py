"""The example plugin, loaded as a user's own project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.cli import main
from nexus_orch.plugin_manager import BLOCK_VARIABLE, load_plugins
from nexus_orch.testing import check_adapter

PROJECT = Path(__file__).parents[2] / "examples" / "plugin_sleep_mode"
RUN = ["--project", str(PROJECT), "hardware=rtx4090", "model=qwen7b", "--format", "json"]


def plan(capsys: pytest.CaptureFixture[str], *overrides: str, version: str = "0.25.1") -> tuple[int, dict[str, Any]]:
    code = main(["plan", *RUN, f"engine.version={version}", *overrides])
    return code, json.loads(capsys.readouterr().out)


def error_of(capsys: pytest.CaptureFixture[str], *overrides: str, version: str = "0.25.1") -> str:
    assert main(["plan", *RUN, f"engine.version={version}", *overrides]) == 2
    captured = capsys.readouterr()
    return captured.err + captured.out


@pytest.mark.slow
def test_its_adapter_keeps_its_promises() -> None:
    adapter = load_plugins(PROJECT).adapters()["sleepy"]
    check_adapter(adapter, settings={"plugin.sleep_mode": True})


def test_the_setting_reaches_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = plan(capsys, "profile=sleepy")
    assert (code, document["adapter"]) == (0, "sleepy")
    assert "--enable-sleep-mode" in document["argv"]
    assert document["env"]["VLLM_SERVER_DEV_MODE"] == "1"
    choices = {choice["key"]: choice for choice in document["choices"]}
    assert choices["plugin.sleep_mode"]["origin"] == "pinned"
    assert "sleepy.yaml:6" in choices["plugin.sleep_mode"]["reason"]
    assert "/sleep" in choices["engine.env.VLLM_SERVER_DEV_MODE"]["reason"]


def test_false_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = plan(capsys, "profile=sleepy", "plugin.sleep_mode=false")
    assert code == 0
    assert "--enable-sleep-mode" not in document["argv"]
    assert "VLLM_SERVER_DEV_MODE" not in document["env"]


def test_another_adapter_refuses_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = error_of(capsys, "profile=sleepy", "engine.adapter=v2")
    assert "the adapter v2 knows no such setting" in text


def test_a_misspelt_setting_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean plugin.sleep_mode?" in error_of(capsys, "profile=sleepy", "+plugin.sleep_mod=true")


def test_two_adapters_for_a_release_are_told_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    text = error_of(capsys)
    assert "2 adapters know vLLM 0.25.1: sleepy, v2" in text
    assert "engine.adapter=sleepy" in text


def test_it_can_take_the_place_of_ours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BLOCK_VARIABLE, "adapter_v2")
    code, document = plan(capsys, "+plugin.sleep_mode=true")
    assert (code, document["adapter"]) == (0, "sleepy")


def test_releases_that_it_does_not_know_are_ours_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = plan(capsys, version="0.16.0")
    assert (code, document["adapter"]) == (0, "v1")
