from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus_orch.commands import ps, stop
from nexus_orch.commands.known_runs import read_known_run
from nexus_orch.errors import ConfigError, LaunchError
from nexus_orch.record.events import Finished, Stopping
from nexus_orch.record.history import history_path, read_history
from nexus_orch.record.journal import read_journal
from tests.commands.conftest import Supervised
from tests.record.examples import write_stopped_run

pytestmark = pytest.mark.slow

Call = Callable[..., str]
Supervise = Callable[..., Supervised]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Supervisors that do not react are given up after one second."""
    monkeypatch.setattr(stop, "RUNGS", 0)
    monkeypatch.setattr(stop, "RELEASE_SECONDS", 1.0)
    monkeypatch.setattr(stop, "FORCE_SECONDS", 1.0)
    return iter(())


def _events(run: Supervised, kind: type) -> list[object]:
    return [entry for entry in read_journal(run.folder / "journal.jsonl").entries if isinstance(entry, kind)]


def test_a_run_that_is_on_is_not_stopped_unasked(call: Call, supervise: Supervise) -> None:
    run = supervise()
    with pytest.raises(ConfigError) as caught:
        call(stop)
    assert f"remedy: nexus stop {run.id}, or --all" in str(caught.value)
    assert run.process.poll() is None
    said = call(stop, run.id)
    assert said.startswith(f"{run.id}: asked to stop\n")
    assert f"{run.id}: stopped after" in said
    assert run.process.wait(10) == 0
    (finished,) = _events(run, Finished)
    assert isinstance(finished, Finished) and finished.reason == "nexus stop"


def test_force_is_told_to_the_supervisor(call: Call, supervise: Supervise) -> None:
    run = supervise()
    call(stop, run.id, "--force")
    (stopping,) = _events(run, Stopping)
    assert isinstance(stopping, Stopping) and stopping.force


def test_several_runs_must_be_named_or_all(call: Call, supervise: Supervise) -> None:
    first, second = supervise(), supervise()
    with pytest.raises(ConfigError) as caught:
        call(stop)
    assert str(caught.value) == f"which run?\n    remedy: name one of {first.id}, {second.id}, or use --all"
    call(stop, "--all")
    assert (first.process.wait(10), second.process.wait(10)) == (0, 0)


def test_all_and_a_name_contradict_each_other(call: Call) -> None:
    with pytest.raises(ConfigError, match="contradict"):
        call(stop, "20261123", "--all")


def test_without_runs_there_is_nothing_to_do(call: Call) -> None:
    assert call(stop) == "nothing runs\n"
    assert call(stop, "--all") == ""


def test_a_run_that_has_ended_is_left_alone(call: Call, runs: Path) -> None:
    folder = write_stopped_run(runs)
    before = folder.journal.read_bytes()
    assert call(stop, folder.id) == f"{folder.id}: has ended already (stopped)\n"
    assert folder.journal.read_bytes() == before
    assert not folder.stop_request.exists()


def test_what_a_killed_supervisor_left_is_stopped_and_written_down(call: Call, supervise: Supervise) -> None:
    run = supervise()
    peaks = read_known_run(run.folder).latest.peaks
    run.kill()
    said = call(stop)
    assert f"{run.id}: its supervisor is gone; stopped after" in said
    assert json.loads(call(ps, "--format", "json")) == []
    record = read_known_run(run.folder)
    assert (record.state, record.exit_code) == ("stopped", 5)
    assert record.reason == "nexus stop: its supervisor was gone"
    assert record.latest.peaks == peaks
    assert [row.state for row in read_history(history_path(), run.folder.parent)] == ["stopped"]


def test_a_lost_run_without_processes_is_closed(call: Call, supervise: Supervise) -> None:
    run = supervise()
    run.kill()
    for pid in {process.pid for process in read_known_run(run.folder).family}:
        os.kill(pid, signal.SIGKILL)
    assert "nothing was left of it" in call(stop, run.id)


def test_a_supervisor_that_dies_while_it_is_waited_for_is_cleaned_up_after(
    call: Call, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = supervise("deaf")

    def kill_then_read(path: Path) -> object:
        if path.joinpath("stop.request").exists() and run.process.poll() is None:
            run.kill()
        return read_known_run(path)

    monkeypatch.setattr(stop, "read_known_run", kill_then_read)
    assert "its supervisor is gone; stopped after" in call(stop, run.id)


@pytest.mark.usefixtures("impatient")
def test_a_supervisor_that_does_not_react_is_told_with_a_remedy(call: Call, supervise: Supervise) -> None:
    run = supervise("deaf")
    with pytest.raises(LaunchError) as caught:
        call(stop, run.id)
    assert f"process {run.process.pid}) does not react" in str(caught.value)
    assert f"nexus stop --force {run.id}" in str(caught.value)
    call(stop, run.id, "--force")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("frozen", [False, True])
def test_force_ends_a_supervisor_that_does_not_react(call: Call, supervise: Supervise, frozen: bool) -> None:
    run = supervise("deaf")
    if frozen and sys.platform != "win32":
        os.kill(run.process.pid, signal.SIGSTOP)
    said = call(stop, run.id, "--force")
    assert "does not react and is killed" in said
    run.process.wait(10)
    assert json.loads(call(ps, "--format", "json")) == []
