from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from nexus_orch.install.work.journal import Journal
from nexus_orch.install.work.steps import Results, Step, StepsState, read_state, record_child, run_steps
from tests.install.told import Told


class BrokenError(Exception):
    pass


class Bench:
    """Three steps that count how often they are done; one of them can be told to fail or to hold no more."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "install.jsonl")
        self.done: list[str] = []
        self.broken = ""
        self.lost = ""
        self.inputs = ""

    def run(self) -> Told:
        told = Told()
        self.done.clear()
        try:
            run_steps([self._step("one"), self._step("two"), self._step("three")], self.journal, told)
        except BrokenError:
            told.note("broken")
        return told

    def _step(self, name: str) -> Step:
        def act(results: Results) -> dict[str, Any]:
            if self.broken == name:
                raise BrokenError(name)
            self.done.append(name)
            return {"before": sorted(results)}

        inputs = (self.inputs,) if name == "two" else ()
        return Step(name, f"do {name}", act, inputs, still_holds=lambda: self.lost != name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_finished_steps_are_not_repeated(bench: Bench) -> None:
    told = bench.run()
    assert bench.done == ["one", "two", "three"]
    assert told.titles == told.done == ["do one", "do two", "do three"]
    told = bench.run()
    assert bench.done == []
    assert told.skipped == ["do one", "do two", "do three"]


def test_a_failed_step_is_where_the_next_call_goes_on(bench: Bench) -> None:
    bench.broken = "two"
    assert bench.run().notes == ["broken"]
    assert read_state(bench.journal) == StepsState(("one", "two", "three"), ("one",))
    assert read_state(bench.journal).next_name == "two"
    bench.broken = ""
    bench.run()
    assert bench.done == ["two", "three"]
    assert read_state(bench.journal).next_name is None


def test_later_steps_get_what_earlier_ones_found_also_from_an_earlier_call(bench: Bench) -> None:
    bench.broken = "three"
    bench.run()
    bench.broken = ""
    bench.run()
    finished = [event for event in bench.journal.read() if event["event"] == "finished"]
    assert finished[-1]["result"] == {"before": ["one", "two"]}


def test_changed_inputs_are_done_again_with_all_that_follows(bench: Bench) -> None:
    bench.run()
    bench.inputs = "another"
    bench.run()
    assert bench.done == ["two", "three"]


def test_a_step_that_holds_no_more_is_done_again_with_all_that_follows(bench: Bench) -> None:
    bench.run()
    bench.lost = "one"
    bench.run()
    assert bench.done == ["one", "two", "three"]


def test_a_kill_while_a_step_is_done_again_takes_the_later_ones_back(bench: Bench) -> None:
    bench.run()
    bench.lost, bench.broken = "one", "one"
    bench.run()
    bench.lost = bench.broken = ""
    bench.run()
    assert bench.done == ["one", "two", "three"]


def test_a_kill_inside_the_last_line_of_the_journal_repeats_that_step(bench: Bench) -> None:
    bench.run()
    bench.journal.path.write_bytes(bench.journal.path.read_bytes()[:-20])
    bench.run()
    assert bench.done == ["three"]


def test_nothing_began(tmp_path: Path) -> None:
    state = read_state(Journal(tmp_path / "none"))
    assert state == StepsState((), ())
    assert state.next_name is None


def test_the_child_of_a_killed_installer_is_stopped_first(no_process_left: None, bench: Bench) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        record_child(bench.journal, child.pid)
        bench.run()
        assert not psutil.pid_exists(child.pid)


def test_another_process_with_the_same_id_is_left_alone(no_process_left: None, bench: Bench) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        created = psutil.Process(stranger.pid).create_time() - 3600
        bench.journal.append({"event": "child", "pid": stranger.pid, "created": created})
        bench.run()
        assert stranger.poll() is None
        stranger.kill()


def test_a_child_that_ended_at_once_is_not_written_down(bench: Bench) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    record_child(bench.journal, child.pid)
    assert bench.journal.read() == []
