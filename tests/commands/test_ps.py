from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_orch.commands import ps
from nexus_orch.commands.ps import ShownRun, render_runs
from nexus_orch.contracts import LeftProcess
from nexus_orch.record.events import Created
from nexus_orch.record.history import history_path, read_history
from nexus_orch.record.run_folder import create_run_folder
from nexus_orch.record.writer import RunWriter
from nexus_orch.types import GIB, ProcessKey
from tests.commands.conftest import Supervised
from tests.record.examples import SPEC, START, write_stopped_run

Call = Callable[..., str]
Supervise = Callable[..., Supervised]


def test_without_runs_there_is_one_sentence(call: Call) -> None:
    assert call(ps) == "nothing runs; the ended runs: nexus ps --all\n"
    assert json.loads(call(ps, "--format", "json")) == []


def test_a_run_that_serves_is_listed(call: Call, supervise: Supervise) -> None:
    run = supervise()
    (shown,) = json.loads(call(ps, "--format", "json"))
    assert (shown["id"], shown["state"], shown["stage"], shown["model"]) == (run.id, "ready", "ready", "qwen0_5b")
    assert shown["supervisor_pid"] == run.process.pid
    assert shown["url"] == "http://127.0.0.1:8000"
    assert shown["gpu_memory_bytes"] == 20 * GIB
    assert shown["uptime_seconds"] >= 0
    assert shown["orphans"] == []
    header, line = call(ps).splitlines()
    assert header.split() == ["run", "model", "state", "url", "pid", "up", "GPU", "memory", "tokens/s"]
    assert line.split()[:5] == [run.id, "qwen0_5b", "ready", "http://127.0.0.1:8000", str(shown["pid"])]


def test_an_engine_whose_supervisor_was_killed_is_marked(call: Call, supervise: Supervise) -> None:
    run = supervise()
    run.kill()
    (shown,) = json.loads(call(ps, "--format", "json"))
    assert shown["state"] == "lost"
    assert shown["pid"] in [process["pid"] for process in shown["orphans"]]
    assert len(shown["orphans"]) == 2
    table = call(ps)
    assert "ORPHAN" in table
    assert f"{run.id}: its supervisor is gone, but 2 engine processes live" in table
    assert f"nexus stop {run.id}" in table


def test_ended_runs_are_listed_when_asked_for(call: Call, runs: Path) -> None:
    ended = write_stopped_run(runs)
    assert call(ps).startswith("nothing runs")
    (shown,) = json.loads(call(ps, "--all", "--format", "json"))
    assert (shown["id"], shown["state"], shown["exit_code"], shown["ended"]) == (ended.id, "stopped", 130, START + 3606)
    assert shown["tokens_per_second"] == 4.1
    assert "stopped" in call(ps, "--all")


def test_a_run_that_ended_unremembered_is_remembered(call: Call, runs: Path) -> None:
    assert read_history(history_path(), runs) == ()
    write_stopped_run(runs)
    call(ps)
    assert [row.state for row in read_history(history_path(), runs)] == ["stopped"]


def test_a_lost_run_without_processes_is_listed_only_with_all(call: Call, runs: Path) -> None:
    folder = create_run_folder(runs, SPEC, START)
    writer = RunWriter(folder)
    writer.write(Created(START, "x", "qwen32b", "auto", ProcessKey(2**22 + 1, START), "0.1.0"))
    writer.close()
    assert call(ps).startswith("nothing runs")
    (shown,) = json.loads(call(ps, "--all", "--format", "json"))
    assert (shown["id"], shown["state"]) == (folder.id, "lost")


def test_a_run_of_another_machine_is_not_called_lost(call: Call, runs: Path) -> None:
    writer = RunWriter(create_run_folder(runs, SPEC, time.time()))
    writer.write(Created(time.time(), "x", "qwen32b", "auto", ProcessKey(1, 1.0), "0.1.0", host="another-machine"))
    writer.close()
    assert "starting on another-machine" in call(ps)


def test_a_broken_history_does_not_hide_the_runs(call: Call, supervise: Supervise) -> None:
    run = supervise()
    history_path().mkdir()
    (shown,) = json.loads(call(ps, "--format", "json"))
    assert shown["id"] == run.id


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (ShownRun("r", "m", "starting", "f", stage="loading", progress=0.45), "loading 45%"),
        (ShownRun("r", "m", "starting", "f", stage="profiling"), "profiling"),
        (ShownRun("r", "m", "starting", "f"), "starting"),
        (ShownRun("r", "m", "ready", "f", stage="ready", stopping=True), "stopping"),
        (ShownRun("r", "m", "failed", "f", cause="weights_oom"), "failed: weights_oom"),
        (ShownRun("r", "m", "lost", "f", orphans=(LeftProcess(7, "vllm", GIB),), left_over=True), "ORPHAN"),
    ],
)
def test_states_in_words(run: ShownRun, state: str) -> None:
    assert f"  {state}  " in render_runs([run])
