"""The trial of RAM, in a real child: what it finds, and that it never outlives anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from nexus_orch.ram.lack import find_lack, make_lack
from nexus_orch.ram.reserve import Reservation, start_reservation
from nexus_orch.types import GIB, MIB

PATIENCE_SECONDS = 60.0


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _finish(trial: Reservation) -> Reservation:
    _wait(lambda: trial.is_over)
    trial.end()
    return trial


def test_ram_that_is_there_is_held_and_given_back(no_process_left: None) -> None:
    trial = _finish(start_reservation(200 * MIB + 5, 2))
    assert trial.held_bytes == trial.wanted_bytes == 200 * MIB + 5
    assert find_lack(trial) is None
    assert not psutil.pid_exists(trial.pid)


def test_it_ends_when_it_is_told_to(no_process_left: None) -> None:
    trial = start_reservation(64 * GIB, 1)
    _wait(lambda: trial.held_bytes > 0)
    trial.end()
    assert not psutil.pid_exists(trial.pid)
    trial.end()


def test_a_child_that_the_kernel_ends_is_a_lack(no_process_left: None) -> None:
    """The out-of-memory killer sends SIGKILL; this test does it in its place."""
    trial = start_reservation(64 * GIB, 1)
    _wait(lambda: trial.held_bytes > 0)
    os.kill(trial.pid, signal.SIGKILL)
    lack = find_lack(_finish(trial))
    assert lack is not None
    assert lack.cause == "host_oom"
    assert "the run takes 64.0 GiB of host RAM, and only 0." in lack.message
    assert "return code -9" in lack.message


LIMITED = """
import resource
from nexus_orch.ram.lack import find_lack
from nexus_orch.ram.reserve import start_reservation
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
trial = start_reservation(2 << 30, 1)
while not trial.is_over:
    pass
trial.end()
lack = find_lack(trial)
print(lack.cause, lack.message)
"""


def test_a_system_that_gives_no_more_is_a_lack(no_process_left: None) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("host_oom the run takes 2.0 GiB of host RAM, and only 0.")
    assert "the operating system refused more: Cannot allocate memory" in done.stdout


SUPERVISOR = """
import time
from nexus_orch.ram.reserve import start_reservation
trial = start_reservation(64 << 30, 1)
print(trial.pid, flush=True)
time.sleep(60)
"""


def test_the_child_dies_with_a_supervisor_that_is_killed(no_process_left: None) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    child = psutil.Process(int(supervisor.stdout.readline()))
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    _wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_the_kernel_would_end_the_child_first(no_process_left: None) -> None:
    trial = start_reservation(64 * GIB, 1)
    _wait(lambda: trial.held_bytes > 0)
    with open(f"/proc/{trial.pid}/oom_score_adj", encoding="ascii") as stream:  # noqa: PTH123
        score = stream.read().strip()
    trial.end()
    assert score == "1000"


def test_ram_that_others_took_is_told_with_both_figures() -> None:
    lack = make_lack(32 * GIB, 40 * GIB, 20 * GIB)
    assert lack.message == (
        "the run takes 32.0 GiB of host RAM: 40.0 GiB were available when it was planned, and 20.0 GiB are now"
    )
    assert lack.remedy is not None
    assert lack.remedy.startswith("free 12.0 GiB, or let the run take less")
