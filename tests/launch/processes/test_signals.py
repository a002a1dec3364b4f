"""Signals as events, in this process and in a real supervisor."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from queue import Queue

import pytest

from nexus_orch.errors import ExitCode
from nexus_orch.launch.processes.signals import StopRequested, StopSignals
from tests.launch.engines import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("number", "exit_code", "reason"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED, "interrupted with Ctrl-C"),
        (signal.SIGTERM, ExitCode.ENVIRONMENT, "ended by SIGTERM"),
        (signal.SIGHUP, ExitCode.ENVIRONMENT, "the terminal was closed"),
    ],
)
def test_a_signal_becomes_an_event(number: signal.Signals, exit_code: ExitCode, reason: str) -> None:
    queue: Queue[StopRequested] = Queue()
    with StopSignals(queue.put) as signals:
        signal.raise_signal(number)
        request = queue.get(timeout=PATIENCE_SECONDS)
        assert (request.reason, request.exit_code, request.count) == (reason, exit_code, 1)
        assert request.time > 0
        assert not signals.hurry.is_set()


def test_the_second_one_is_a_wish_to_hurry() -> None:
    queue: Queue[StopRequested] = Queue()
    with StopSignals(queue.put) as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        requests = [queue.get(timeout=PATIENCE_SECONDS) for _ in range(2)]
        assert [request.count for request in requests] == [1, 2]
        assert signals.hurry.is_set()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGQUIT")
def test_who_presses_ctrl_backslash_does_not_want_to_wait() -> None:
    """Its default would end the supervisor at once and leave the engine behind."""
    queue: Queue[StopRequested] = Queue()
    with StopSignals(queue.put) as signals:
        signal.raise_signal(signal.SIGQUIT)
        request = queue.get(timeout=PATIENCE_SECONDS)
        assert (request.reason, request.exit_code) == ("interrupted with Ctrl-\\", ExitCode.INTERRUPTED)
        assert signals.hurry.is_set()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    queue: Queue[StopRequested] = Queue()
    with StopSignals(queue.put):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        queue: Queue[StopRequested] = Queue()
        with StopSignals(queue.put):
            signal.raise_signal(signal.SIGHUP)
        assert queue.empty()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_it_does_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: Queue[object] = Queue()

    def run() -> None:
        with StopSignals(seen.put):
            seen.put(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen.get_nowait() == before


SUPERVISOR = """
import queue
from nexus_orch.launch.processes.signals import StopSignals
events = queue.Queue()
with StopSignals(events.put):
    print("up", flush=True)
    request = events.get()
    print(request.reason, flush=True)
raise SystemExit(request.exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 5), (signal.SIGHUP, 5)])
def test_a_loop_that_waits_on_its_queue_is_woken(number: signal.Signals, code: int, no_process_left: None) -> None:
    words = [sys.executable, "-c", SUPERVISOR]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        supervisor.send_signal(number)
        _, errors = supervisor.communicate(timeout=PATIENCE_SECONDS)
        assert (supervisor.returncode, errors) == (code, "")
