"""The watch: what it says of servers that are slow, lie, hang, or die while they serve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Queue

import psutil
import pytest

from nexus_orch.launch.server.readiness import ReadinessWatch, WatchTimes
from nexus_orch.launch.server.server import Server
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Observation, Probed
from tests.launch.engines import PATIENCE_SECONDS, Watched

Start = Callable[..., Watched]

FAST = WatchTimes(first_poll=0.02, last_poll=0.05, serving_poll=0.05, recheck=None)


class Watch:
    def __init__(
        self,
        port: int,
        times: WatchTimes,
        is_idle: Callable[[], bool] | None,
        is_suspect: Callable[[], bool] | None = None,
    ) -> None:
        self.queue: Queue[Observation] = Queue()
        self.watch = ReadinessWatch(
            Server("127.0.0.1", port),
            attempt=1,
            emit=self.queue.put,
            is_idle=is_idle,
            is_suspect=is_suspect,
            times=times,
        )
        self.watch.start()

    def next(self) -> tuple[str, bool]:
        """Kind and success of the next probe."""
        probed = self.queue.get(timeout=PATIENCE_SECONDS)
        assert isinstance(probed, Probed)
        return probed.kind, probed.ok


@pytest.fixture
def watch(free_port: int) -> Iterator[Callable[..., Watch]]:
    watches: list[Watch] = []

    def start_watch(
        times: WatchTimes = FAST,
        is_idle: Callable[[], bool] | None = None,
        is_suspect: Callable[[], bool] | None = None,
    ) -> Watch:
        watches.append(Watch(free_port, times, is_idle, is_suspect))
        return watches[-1]

    yield start_watch
    for started in watches:
        started.watch.stop()


def test_a_start_told_from_nothing_to_proof(watch: Callable[..., Watch], start: Start, free_port: int) -> None:
    watched = watch()
    assert watched.next() == ("health", False)
    start(FakeEngine(boot_seconds=0.3).command(free_port))
    assert watched.next() == ("health", True)
    assert watched.next() == ("completion", True)


def test_health_before_it_is_ready_is_not_believed(watch: Callable[..., Watch], start: Start, free_port: int) -> None:
    start(FakeEngine(health="early", stall_at="loading").command(free_port)).wait_for_line("Initializing")
    watched = watch()
    told = {watched.next() for _ in range(3)}
    assert ("completion", False) in told
    assert ("completion", True) not in told


def test_a_port_that_opens_late_is_waited_for(watch: Callable[..., Watch], start: Start, free_port: int) -> None:
    watched = watch()
    start(FakeEngine(port_delay_seconds=0.5).command(free_port)).wait_until_ready()
    assert [watched.next() for _ in range(3)] == [("health", False), ("health", True), ("completion", True)]


@pytest.mark.parametrize("completions", ["error", "empty", "hang"])
def test_completions_that_fail_are_tried_again(
    completions: str, watch: Callable[..., Watch], start: Start, free_port: int
) -> None:
    start(FakeEngine(completions=completions).command(free_port)).wait_until_ready()  # type: ignore[arg-type]
    times = WatchTimes(first_poll=0.02, last_poll=0.05, serving_poll=0.05, first_completion_timeout=0.1)
    watched = watch(times)
    told = [watched.next() for _ in range(4)]
    assert told.count(("completion", False)) >= 2
    assert ("completion", True) not in told


def test_a_server_that_dies_while_it_serves(watch: Callable[..., Watch], start: Start, free_port: int) -> None:
    engine = start(FakeEngine().command(free_port))
    engine.wait_until_ready()
    watched = watch()
    while watched.next() != ("completion", True):
        pass
    engine.stop()
    assert watched.next() == ("health", False)
    assert watched.next() == ("health", False)  # every failure is told, once it served


def test_a_dead_engine_behind_a_server_that_says_that_it_is_well(
    watch: Callable[..., Watch], start: Start, free_port: int
) -> None:
    engine = start(FakeEngine(health="always").command(free_port))
    engine.wait_until_ready()
    watched = watch(WatchTimes(first_poll=0.02, last_poll=0.05, serving_poll=0.05, recheck=0.2))
    while watched.next() != ("completion", True):
        pass
    core = engine.wait_for_family(2)[1]
    psutil.Process(core.pid).kill()
    while watched.next() != ("completion", False):
        pass
    assert engine.engine.returncode is None


def test_a_busy_server_is_not_rechecked(watch: Callable[..., Watch], start: Start, free_port: int) -> None:
    asked: Queue[None] = Queue()

    def is_idle() -> bool:
        asked.put(None)
        return False

    start(FakeEngine().command(free_port)).wait_until_ready()
    watched = watch(WatchTimes(first_poll=0.02, serving_poll=0.02, recheck=0.01), is_idle)
    while watched.next() != ("completion", True):
        pass
    for _ in range(5):
        asked.get(timeout=PATIENCE_SECONDS)
    assert watched.queue.empty()


def test_the_watch_ends_while_a_request_hangs(watch: Callable[..., Watch], start: Start, free_port: int) -> None:
    start(FakeEngine(completions="hang").command(free_port)).wait_until_ready()
    watched = watch()
    while watched.next() != ("health", True):
        pass
    watched.watch.stop()
    watched.watch.stop()  # a second time does nothing


def test_a_busy_server_that_seems_to_hang_is_asked_for_one_token(
    watch: Callable[..., Watch], start: Start, free_port: int
) -> None:
    start(FakeEngine(hangs_after_requests=1).command(free_port)).wait_until_ready()
    suspect = threading.Event()
    times = replace(FAST, suspect_timeout=0.2)
    watched = watch(times, is_idle=lambda: False, is_suspect=suspect.is_set)
    assert [watched.next() for _ in range(2)] == [("health", True), ("completion", True)]
    suspect.set()
    assert watched.next() == ("completion", False)
