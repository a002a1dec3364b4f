"""What is left of engines whose supervising process was killed."""

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

import pytest

from nexus_orch.contracts import EngineRecord
from nexus_orch.launch.processes.family import ProcessRecord, read_record
from nexus_orch.launch.processes.stop import stop_processes
from nexus_orch.testing import FakeEngine
from nexus_orch.types import ProcessKey
from tests.launch.engines import PATIENCE_SECONDS, is_gone
from tests.plugins.plans import shipped_plugins

LOCAL = shipped_plugins().engines()["local"]
ROOT = Path(__file__).parents[3]
SUPERVISOR = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from nexus_orch.launch.processes.process import start_child
from nexus_orch.types import Command, LogLine
from tests.launch.engines import make_start

queue = Queue()
spec = json.loads(sys.argv[1])
engine = start_child(make_start(Command(tuple(spec["argv"]), spec["env"]), Path(sys.argv[2]), queue.put))
while "startup complete" not in getattr(queue.get(), "text", ""):
    pass
while len(engine.family()) < int(sys.argv[3]):
    engine.look()
print(json.dumps({"identity": dict(engine.identity), "family": [asdict(k) for k in engine.record.family]}), flush=True)
time.sleep(1000)
"""


class Supervisor:
    def __init__(self, engine: FakeEngine, port: int, folder: Path, family: int) -> None:
        command = engine.command(port)
        spec = json.dumps({"argv": command.argv, "env": dict(command.env)})
        words = [sys.executable, "-c", SUPERVISOR, spec, str(folder / "engine.log"), str(family)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        seen = tuple(ProcessKey(**key) for key in told["family"])
        self.written = EngineRecord("run-7", "local", told["identity"], seen)
        record = read_record(self.written)
        assert record is not None
        self.record = record

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
    stop_processes(started.record, stop_seconds=0)


def test_what_is_left_is_found_and_stopped_after_its_supervisor_was_killed(supervisor: Supervisor) -> None:
    record = supervisor.record
    supervisor.kill()
    left = LOCAL.reopen(supervisor.written)
    assert left is not None
    found = left.list_processes()
    assert {process.pid for process in found} == {record.pid, *(key.pid for key in record.family)}
    assert all(process.rss_bytes > 0 and process.name for process in found)
    left.stop(stop_seconds=10)
    assert all(is_gone(key) for key in (record.key, *record.family))
    assert LOCAL.reopen(supervisor.written) is None


def test_children_are_found_when_the_server_is_dead_too(supervisor: Supervisor) -> None:
    supervisor.kill()
    _kill_server(supervisor.record)
    assert _left_pids(supervisor.written) == {key.pid for key in supervisor.record.family}


def test_the_recorded_family_is_enough_without_a_mark(supervisor: Supervisor) -> None:
    supervisor.kill()
    _kill_server(supervisor.record)
    unmarked = replace(supervisor.written, identity={**supervisor.written.identity, "mark": None})
    assert _left_pids(unmarked) == {key.pid for key in supervisor.record.family}


def test_the_mark_is_enough_without_a_recorded_family(supervisor: Supervisor) -> None:
    supervisor.kill()
    _kill_server(supervisor.record)
    family = {key.pid for key in supervisor.record.family}
    assert _left_pids(replace(supervisor.written, family=())) == family


def test_without_an_identity_the_recorded_processes_are_looked_for(supervisor: Supervisor) -> None:
    record = supervisor.record
    supervisor.kill()
    known = replace(supervisor.written, identity={}, family=(record.key, *record.family))
    assert _left_pids(known) == {record.pid, *(key.pid for key in record.family)}


@pytest.mark.parametrize("identity", [{}, {"pid": "seven"}, {"pid": 7}, {"container": "abc"}])
def test_what_is_no_record_of_processes_gives_nothing(identity: dict[str, object]) -> None:
    assert LOCAL.reopen(EngineRecord("run-1", "local", identity)) is None


def test_an_ended_engine_gives_nothing() -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    pid = int(ended.stdout)
    identity = {"pid": pid, "create_time": 1.0, "pgid": pid, "mark": "none"}
    assert LOCAL.reopen(EngineRecord("run-1", "local", identity)) is None


def _left_pids(record: EngineRecord) -> set[int]:
    left = LOCAL.reopen(record)
    return set() if left is None else {process.pid for process in left.list_processes()}


def _kill_server(record: ProcessRecord) -> None:
    os.kill(record.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_gone(record.key):
        assert time.monotonic() < deadline
        time.sleep(0.01)
