"""`nexus sweep-report` on the folder of a sweep: every form, the comparison, and the pick as a profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_orch.commands import sweep_report
from nexus_orch.errors import ConfigError
from nexus_orch.paths import home_dir
from nexus_orch.sweep.run.journal import SweepJournal, SweepRecord
from tests.sweep.report.stories import make_decision, make_task, outcomes

Call = Callable[..., str]
COMMAND = (
    "hardware=rtx4090",
    "model=qwen14b",
    "memory=hybrid",
    "memory.cpu_offload_gib=4,8",
    "serve.max_num_seqs=16,64",
)


@pytest.fixture
def sweep(isolated_home: Path) -> Path:
    """The folder of a sweep that goes on; the folders of its runs are gone."""
    folder = home_dir() / "sweeps" / "2026-12-01_10-00-00"
    journal = SweepJournal(folder)
    journal.create(SweepRecord(make_task(), COMMAND, started=1000.0))
    for outcome in outcomes():
        journal.append(outcome)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "profile").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def picked(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same after its end: the search itself has tests of its own."""
    monkeypatch.setattr("nexus_orch.sweep.report.folder.decide", lambda task, happened: make_decision())
    return sweep


def test_the_newest_sweep_is_told_where_none_is_named(sweep: Path, call: Call) -> None:
    told = call(sweep_report)
    assert "cpu_offload_gib" in told and "died at 24,300 accumulated tokens" in told
    assert f"the sweep is not over: sweep.resume={sweep} goes on with it" in told
    assert told == call(sweep_report, sweep.name) == call(sweep_report, str(sweep))


def test_programs_get_all_of_it(sweep: Path, call: Call) -> None:
    told = json.loads(call(sweep_report, "--format", "json"))
    assert told["command"] == list(COMMAND) and len(told["points"]) == 8 and len(told["launches"]) == 5


def test_the_page_goes_into_the_folder_of_the_sweep(sweep: Path, call: Call) -> None:
    told = call(sweep_report, "--format", "html")
    assert told.strip() == str(sweep / "report.html")
    assert "<title>Sweep of hardware=rtx4090 model=qwen14b memory=hybrid</title>" in (sweep / "report.html").read_text()


def test_sweeps_are_compared(picked: Path, call: Call) -> None:
    told = call(sweep_report, "--compare", str(picked))
    assert told.count(picked.name) == 2
    assert told.splitlines()[-1].split()[1] == "705"


def test_no_sweep_and_no_folder_of_one_are_told_with_a_remedy(isolated_home: Path, call: Call, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no sweep yet"):
        call(sweep_report)
    with pytest.raises(ConfigError, match="no folder of a sweep"):
        call(sweep_report, str(tmp_path))


def test_a_profile_is_shown_before_it_is_written(picked: Path, call: Call, project: Path) -> None:
    with pytest.raises(ConfigError, match="nobody is there to be asked"):
        call(sweep_report, "--write-profile", "mine", "--project", str(project))
    told = call(sweep_report, "--write-profile", "mine", "--project", str(project), "--yes")
    assert "+  max_num_seqs: 64" in told and "written: nexus-run profile=mine" in told
    assert "says so already" in call(sweep_report, "--write-profile", "mine", "--project", str(project))


def test_a_sweep_without_a_pick_writes_no_profile(sweep: Path, call: Call, project: Path) -> None:
    with pytest.raises(ConfigError, match="the sweep has no pick"):
        call(sweep_report, "--write-profile", "mine", "--project", str(project), "--yes")


@pytest.mark.parametrize("name", ["../../mine", ".hidden", "a/b"])
def test_a_profile_stays_in_its_folder(name: str, picked: Path, call: Call, project: Path) -> None:
    with pytest.raises(ConfigError, match="no name of a profile"):
        call(sweep_report, "--write-profile", name, "--project", str(project), "--yes")
