"""`nexus engine check`: one profile against the engine and every known release."""

from __future__ import annotations

import json

import pytest

from nexus_orch.cli import main
from tests.releases.ends import NEXT

HYBRID = ["hardware=rtx4090x2", "model=qwen32b", "memory=hybrid"]


def _results(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, object]]]:
    code = main(["engine", "check", *arguments, "--format", "json"])
    return code, {row["engine_version"]: row for row in json.loads(capsys.readouterr().out)[1:]}


def test_offload_is_planned_anew_for_each_release(capsys: pytest.CaptureFixture[str]) -> None:
    code, results = _results([*HYBRID, "--all"], capsys)
    assert code == 0
    assert results["0.4.3"]["result"] == "refused"
    assert results["0.16.0"]["result"] == "good"
    assert results["0.25.1"]["result"] == "good"
    assert "VLLM_USE_V2_MODEL_RUNNER=0" in str(results["0.25.1"]["additions"])
    assert results["0.33.0"]["result"] == "good"


def test_what_is_pinned_and_gone_is_refused_with_the_releases_that_have_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, results = _results([*HYBRID, "memory.swap_gib=4", "--all"], capsys)
    assert code == 2
    assert results["0.6.6.post1"]["result"] == "good"
    assert results["0.33.0"]["result"] == "refused"
    assert "memory.kv_offload_gib" in str(results["0.33.0"]["reasons"])


def test_the_table_shows_only_the_engine_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", "hardware=rtx4090", "model=qwen7b", "engine.version=0.25.1"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["vLLM", "adapter", "result", "why"],
        ["0.25.1", "v2", "good"],
    ]


def test_releases_that_do_the_same_share_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", *HYBRID, "memory.swap_gib=4", "--all"]) == 2
    lines = capsys.readouterr().out.splitlines()
    rows = [(line.split()[0], line.split()[4]) for line in lines if " to " in line[:12]]
    assert rows[0] == ("0.5.5", "good")
    assert [result for _, result in rows[1:]] == ["refused"] * (len(rows) - 1)
    assert all(line == line.rstrip() for line in lines)


def test_what_is_replaced_is_told_from_what_is_added(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", *HYBRID, "engine.version=0.25.1"]) == 0
    assert "adds VLLM_USE_V2_MODEL_RUNNER=0: the second model runner of vLLM 0.25.1 ignores" in " ".join(
        capsys.readouterr().out.split()
    )


def test_options_stand_between_the_overrides_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", HYBRID[0], "--format", "json", *HYBRID[1:], "engine.version=0.25.1"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["engine_version"] == "0.25.1"


def test_what_does_not_fit_has_the_exit_code_of_a_launch(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["hardware=rtx4090", "model=qwen32b", "memory=vram_only"]
    assert main(["engine", "check", *arguments, "--format", "json"]) == 3
    (row,) = json.loads(capsys.readouterr().out)
    assert row["result"] == "does not fit" and row["reasons"]


def test_a_release_that_was_not_checked_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", "hardware=rtx4090", "model=qwen7b", "engine.version=0.26.0"]) == 0
    assert "note: the options of vLLM 0.26.0 are assumed to be those of 0.25.1" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["nightly", "0.x", f">={NEXT}"])
def test_a_version_that_is_none(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", "hardware=rtx4090", "model=qwen7b", f"engine.version='{version}'"]) == 2
    assert f"engine.version = {version}" in capsys.readouterr().err
