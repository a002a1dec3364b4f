"""The stop ladder on real processes that do not want to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import psutil
import pytest

from nexus_orch.contracts import StopReport
from nexus_orch.launch.processes.family import ProcessRecord, find_family, key_of
from nexus_orch.launch.processes.stop import describe_survivors, stop_processes
from nexus_orch.launch.server.ports import is_free
from nexus_orch.testing import FakeEngine
from nexus_orch.types import ProcessKey
from tests.launch.engines import PATIENCE_SECONDS, Watched, is_gone, python

Start = Callable[..., Watched]


def test_a_willing_engine_stops_at_the_first_rung(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(workers=1).command(free_port))
    watched.wait_until_ready()
    family = watched.wait_for_family(3)
    report = watched.stop()
    assert (report.rung, report.killed, report.survivors, report.problems) == ("SIGINT", (), (), ())
    assert watched.wait_for_exit().returncode == 0
    assert all(is_gone(key) for key in family)
    assert is_free("127.0.0.1", free_port)


@pytest.mark.parametrize(
    ("ignored", "rung"), [(("SIGINT",), "SIGTERM"), (("SIGINT", "SIGTERM"), "SIGKILL"), (("SIGTERM",), "SIGINT")]
)
def test_climbs_as_far_as_it_must(ignored: tuple[str, ...], rung: str, start: Start, free_port: int) -> None:
    watched = start(FakeEngine(ignores=ignored, core_ignores=ignored).command(free_port))
    watched.wait_until_ready()
    report, rungs = _stop_past(ignored, watched)
    assert report.rung == rung == rungs[-1]
    assert rungs == ["SIGINT", "SIGTERM", "SIGKILL"][: len(rungs)]
    assert (watched.engine.record.key in report.killed) == (rung == "SIGKILL")
    watched.wait_for_exit()


def test_a_core_that_outlives_its_server_is_killed_and_named(start: Start, free_port: int) -> None:
    behaviour = FakeEngine(core_ignores=("SIGINT", "SIGTERM"), core_outlives=True, core_holds_port=True)
    watched = start(behaviour.command(free_port))
    watched.wait_until_ready()
    core = watched.wait_for_family(2)[1]
    report, _ = _stop_past(behaviour.core_ignores, watched)
    assert report.rung == "SIGKILL"
    assert core in report.killed
    assert is_gone(core)
    assert is_free("127.0.0.1", free_port)


def test_a_core_that_changed_group_session_and_parent_is_found(start: Start, free_port: int) -> None:
    behaviour = FakeEngine(core_escapes=True, core_outlives=True, core_holds_port=True)
    watched = start(behaviour.command(free_port))
    core_pid = _core_pid(watched)
    assert os.getsid(core_pid) != watched.engine.record.pgid
    assert psutil.Process(core_pid).ppid() != watched.engine.pid
    record = watched.engine.record
    assert set(find_family(record)) == {record.pid, core_pid}
    key = key_of(psutil.Process(core_pid))
    watched.stop()
    assert is_gone(key)
    assert is_free("127.0.0.1", free_port)


def test_after_the_server_was_killed_its_children_are_stopped(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(core_outlives=True, workers=2).command(free_port))
    watched.wait_until_ready()
    family = watched.wait_for_family(4)
    psutil.Process(watched.engine.pid).kill()
    watched.wait_for_exit()
    assert not any(is_gone(key) for key in family[1:])
    report = watched.stop()
    assert report.rung is not None
    assert all(is_gone(key) for key in family)


def test_nothing_else_is_touched(start: Start, free_port: int) -> None:
    bystander = start(FakeEngine().command(free_port))
    bystander.wait_until_ready()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        watched = start(python("input()"))
        watched.stop()
        assert stranger.poll() is None
        assert bystander.engine.returncode is None
    finally:
        stranger.communicate(b"\n", timeout=PATIENCE_SECONDS)


def test_a_pid_that_was_used_again_is_left_alone(start: Start) -> None:
    watched = start(python("print('up', flush=True); import time; time.sleep(100)"))
    watched.wait_for_line("up")
    old = replace(watched.engine.record, create_time=watched.engine.record.create_time - 60, mark=None)
    assert find_family(old) == {}
    assert stop_processes(old, stop_seconds=5).rung is None
    assert watched.engine.returncode is None


def test_what_has_ended_already_needs_no_rung(start: Start) -> None:
    watched = start(python("pass"))
    watched.wait_for_exit()
    assert watched.stop().rung is None


def test_a_process_lives_until_its_last_thread_has_ended(start: Start) -> None:
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    watched = start(python(code))
    watched.wait_for_line("up")
    process = psutil.Process(watched.engine.pid)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert set(find_family(watched.engine.record)) == {process.pid}
    assert watched.stop(stop_seconds=0).rung is not None
    assert find_family(watched.engine.record) == {}


def test_hurry_goes_on_to_the_next_rung_at_once(start: Start, free_port: int) -> None:
    ignored = ("SIGINT", "SIGTERM")
    watched = start(FakeEngine(ignores=ignored, core_ignores=ignored).command(free_port))
    watched.wait_until_ready()
    report, rungs = _stop_past(ignored, watched, stop_seconds=100_000)
    assert rungs == ["SIGINT", "SIGTERM", "SIGKILL"]
    assert report.seconds < 100_000


def test_force_kills_at_once(start: Start, free_port: int) -> None:
    watched = start(FakeEngine().command(free_port))
    watched.wait_until_ready()
    report = watched.engine.stop(stop_seconds=0, force=True)
    assert report.rung == "SIGKILL"
    assert watched.engine.record.key in report.killed
    assert watched.wait_for_exit().returncode == -9


def test_another_process_can_stop_it(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(workers=1).command(free_port))
    watched.wait_until_ready()
    family = watched.wait_for_family(3)
    code = (
        "import json, sys\n"
        "from nexus_orch.launch.processes.family import ProcessRecord\n"
        "from nexus_orch.launch.processes.stop import stop_processes\n"
        "print(stop_processes(ProcessRecord(**json.loads(sys.argv[1])), stop_seconds=60).rung)\n"
    )
    record = watched.engine.record
    plain = json.dumps(asdict(ProcessRecord(record.pid, record.create_time, record.pgid, record.mark)))
    done = subprocess.run([sys.executable, "-c", code, plain], capture_output=True, text=True, check=True)
    assert done.stdout == "SIGINT\n"
    assert watched.wait_for_exit().returncode == 0
    assert all(is_gone(key) for key in family)


def test_survivors_are_a_problem_with_a_remedy() -> None:
    (problem,) = describe_survivors((ProcessKey(41, 1.0), ProcessKey(42, 1.0)))
    assert problem.message == "could not stop process 41, 42"
    assert problem.cause == "orphan_holds_memory"
    assert problem.remedy


def _stop_past(
    ignored: tuple[str, ...], watched: Watched, stop_seconds: float = PATIENCE_SECONDS
) -> tuple[StopReport, list[str]]:
    """Stop it, without waiting on the rungs that it ignores; gives the rungs that were climbed, too."""
    rungs: list[str] = []
    hurry = threading.Event()

    def climb(rung: str) -> None:
        rungs.append(rung)
        if rung in ignored:
            hurry.set()

    return watched.engine.stop(stop_seconds=stop_seconds, hurry=hurry, on_rung=climb), rungs


def _core_pid(watched: Watched) -> int:
    line = watched.wait_for_line("Initializing a V1 LLM engine")
    watched.wait_until_ready()
    pid = int(line.text.split("pid=")[1].split(")")[0])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while psutil.Process(pid).ppid() == watched.engine.pid:
        assert time.monotonic() < deadline
    return pid
