"""Orphans: engines whose supervising process was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nexus_orch.launch.processes.family import EngineRecord
from nexus_orch.launch.processes.orphans import find_orphans
from nexus_orch.launch.processes.stop import stop_engine
from nexus_orch.testing import FakeEngine
from nexus_orch.types import ProcessKey
from tests.launch.engines import PATIENCE_SECONDS, is_gone

SUPERVISOR = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from nexus_orch.launch.processes.process import start_engine
from nexus_orch.types import Command, LogLine

queue = Queue()
spec = json.loads(sys.argv[1])
engine = start_engine(Command(tuple(spec["argv"]), spec["env"]), attempt=1, emit=queue.put,
                      log_path=Path(sys.argv[2]), run_id="run-7")
while "startup complete" not in getattr(queue.get(), "text", ""):
    pass
while len(engine.family()) < int(sys.argv[3]):
    engine.find_new_descendants()
print(json.dumps(asdict(engine.record)), flush=True)
time.sleep(1000)
"""


class Supervisor:
    def __init__(self, engine: FakeEngine, port: int, folder: Path, family: int) -> None:
        command = engine.command(port)
        spec = json.dumps({"argv": command.argv, "env": dict(command.env)})
        words = [sys.executable, "-c", SUPERVISOR, spec, str(folder / "engine.log"), str(family)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        told["family"] = tuple(ProcessKey(**key) for key in told["family"])
        told["supervisor"] = ProcessKey(**told["supervisor"])
        self.record = EngineRecord(**told)

    def kill(self) -> None:
        """As kill -9 does: no chance to stop the engine."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def supervisor(no_process_left: None, tmp_path: Path, free_port: int) -> Iterator[Supervisor]:
    started = Supervisor(FakeEngine(core_outlives=True, workers=1), free_port, tmp_path, family=3)
    yield started
    if started.process.poll() is None:
        started.kill()
    stop_engine(started.record, stop_seconds=0)


def test_an_engine_with_a_living_supervisor_is_no_orphan(supervisor: Supervisor) -> None:
    assert find_orphans([supervisor.record]) == ()


def test_orphan_is_found_and_stopped_after_its_supervisor_was_killed(supervisor: Supervisor) -> None:
    record = supervisor.record
    supervisor.kill()
    (orphan,) = find_orphans([record])
    assert orphan.run_id == "run-7"
    assert {process.key for process in orphan.processes} == {record.key, *record.family}
    assert all(process.rss_bytes > 0 and process.name for process in orphan.processes)
    stop_engine(orphan.record, stop_seconds=10)
    assert all(is_gone(process.key) for process in orphan.processes)
    assert find_orphans([record]) == ()


def test_children_are_found_when_the_server_is_dead_too(supervisor: Supervisor) -> None:
    record = supervisor.record
    supervisor.kill()
    _kill_server(record)
    (orphan,) = find_orphans([record])
    assert {process.key for process in orphan.processes} == set(record.family)


def test_the_recorded_family_is_enough_without_a_mark(supervisor: Supervisor) -> None:
    supervisor.kill()
    _kill_server(supervisor.record)
    (orphan,) = find_orphans([replace(supervisor.record, mark=None)])
    assert {process.key for process in orphan.processes} == set(supervisor.record.family)


def test_the_mark_is_enough_without_a_recorded_family(supervisor: Supervisor) -> None:
    record = supervisor.record
    supervisor.kill()
    _kill_server(record)
    (orphan,) = find_orphans([replace(record, family=())])
    assert {process.key for process in orphan.processes} == set(record.family)


def test_a_supervisors_pid_that_was_used_again_does_not_hide_an_orphan(supervisor: Supervisor) -> None:
    supervisor.kill()
    used_again = ProcessKey(os.getpid(), psutil.Process().create_time() - 60)
    assert len(find_orphans([replace(supervisor.record, supervisor=used_again)])) == 1


def test_records_of_ended_runs_give_nothing() -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert find_orphans([EngineRecord("run-1", int(ended.stdout), 1.0, pgid=int(ended.stdout), mark="none")]) == ()


def _kill_server(record: EngineRecord) -> None:
    os.kill(record.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_gone(record.key):
        assert time.monotonic() < deadline
        time.sleep(0.01)
