from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.record.find import find_run, find_runs

IDS = ("20261122-090000-qwen7b-vram_only", "20261123-090000-qwen7b-hybrid", "20261123-100000-qwen32b-hybrid")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run_id in (*reversed(IDS), "notes", ".trash"):
        (tmp_path / run_id).mkdir()
    (tmp_path / "20261123-110000-a-file").write_text("")
    return tmp_path


def test_runs_are_found_the_oldest_first(runs: Path) -> None:
    assert [path.name for path in find_runs(runs)] == list(IDS)


def test_without_a_folder_there_are_no_runs(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "runs") == ()
    with pytest.raises(ConfigError, match="there are no runs yet"):
        find_run(tmp_path / "runs", None)


def test_the_last_run_is_meant_when_none_is_named(runs: Path) -> None:
    assert find_run(runs, None).name == IDS[2]


@pytest.mark.parametrize("text", [IDS[0], "20261122", "20261122-0900"])
def test_an_id_or_its_unique_beginning_names_a_run(runs: Path, text: str) -> None:
    assert find_run(runs, text).name == IDS[0]


def test_a_whole_id_wins_over_longer_ones(runs: Path) -> None:
    (runs / f"{IDS[0]}-2").mkdir()
    assert find_run(runs, IDS[0]).name == IDS[0]


def test_an_ambiguous_beginning_lists_the_runs(runs: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_run(runs, "20261123")
    assert str(caught.value) == f"'20261123' means 2 runs\n    remedy: one of: {IDS[1]}, {IDS[2]}"


def test_a_mistake_lists_the_nearest_runs(runs: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_run(runs, "20261123-100000-qwen23b-hybrid")
    problem = caught.value.problems[0]
    assert problem.message == "there is no run '20261123-100000-qwen23b-hybrid'"
    assert problem.remedy is not None and problem.remedy.startswith(f"the nearest: {IDS[2]}")


def test_runs_that_cannot_be_listed_are_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="cannot read the runs"):
        find_runs(tmp_path / "runs")
