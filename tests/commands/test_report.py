from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_orch.commands import report
from nexus_orch.errors import ConfigError
from tests.record.examples import START, write_stopped_run

Call = Callable[..., str]


def test_the_report_of_the_last_run_is_markdown(call: Call, runs: Path) -> None:
    write_stopped_run(runs)
    last = write_stopped_run(runs, START + 60)
    assert call(report).startswith(f"# {last.id}\n")


def test_the_report_as_json(call: Call, runs: Path) -> None:
    folder = write_stopped_run(runs)
    content = json.loads(call(report, folder.id, "--format", "json"))
    assert (content["id"], content["state"], content["exit_code"]) == (folder.id, "stopped", 130)
    assert [attempt["number"] for attempt in content["attempts"]] == [1, 2]


def test_without_runs_there_is_a_remedy(call: Call) -> None:
    with pytest.raises(ConfigError, match="there are no runs yet"):
        call(report)


def test_an_empty_run_folder_can_be_reported(call: Call, runs: Path) -> None:
    (runs / "20261123-140000-killed").mkdir()
    text = call(report)
    assert "lost: its supervisor ended without saying how" in text
    assert "there is no journal" in text


def test_a_log_is_for_diagnose(call: Call, tmp_path: Path) -> None:
    (tmp_path / "vllm.log").write_text("INFO 01-15 09:00:00 [core.py:1] x")
    with pytest.raises(ConfigError) as raised:
        call(report, str(tmp_path / "vllm.log"))
    assert "nexus diagnose" in str(raised.value.problems[0].remedy)
