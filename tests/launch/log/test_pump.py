"""The pump: nothing is lost from the count, nothing that matters from the lines, and the child never waits."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from nexus_orch.launch.log import pump as log_pump
from nexus_orch.launch.log.buffer import LogBuffer, Taken
from nexus_orch.launch.log.pump import LogPump
from nexus_orch.testing import FakeEngine
from nexus_orch.types import MIB, LogLine, Observation
from tests.launch.engines import PATIENCE_SECONDS, Watched, python

Start = Callable[..., Watched]


class Pumped:
    """A pump that is fed by the test through a real pipe."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.queue: Queue[Observation] = Queue()
        self.path = folder / "engine.log"
        reading, self.writing = os.pipe()
        self.pump = LogPump(
            os.fdopen(reading, "rb", buffering=0),
            self.path,
            attempt=2,
            emit=self.queue.put,
            **options,  # type: ignore[arg-type]
        )
        self.pump.start()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.writing, view) :]

    def next_line(self) -> LogLine:
        line = self.queue.get(timeout=PATIENCE_SECONDS)
        assert isinstance(line, LogLine)
        return line

    def finish(self) -> list[LogLine]:
        """End the output and give the lines that are left."""
        os.close(self.writing)
        assert self.pump.wait(PATIENCE_SECONDS)
        return [self.next_line() for _ in range(self.queue.qsize())]


@pytest.fixture
def pumped(tmp_path: Path) -> Iterator[Callable[..., Pumped]]:
    yield lambda **options: Pumped(tmp_path, **options)


def assert_all_counted(pump: LogPump) -> None:
    assert pump.file.written_bytes + pump.file.dropped_bytes == pump.read_bytes
    assert pump.passed_bytes + pump.dropped_bytes == pump.read_bytes


def test_lines_and_file(pumped: Callable[..., Pumped]) -> None:
    feed = pumped()
    feed.write(b"\x1b[36mone\x1b[0m\ntwo\nthree")
    lines = feed.finish()
    assert [line.text for line in lines] == ["one", "two", "three"]
    assert all(line.attempt == 2 and line.dropped_bytes == 0 for line in lines)
    assert feed.path.read_bytes() == b"\x1b[36mone\x1b[0m\ntwo\nthree"
    assert_all_counted(feed.pump)


def test_a_progress_bar_is_told_while_it_moves_and_once_at_its_end(
    pumped: Callable[..., Pumped], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_pump, "PROGRESS_SECONDS", 0.01)
    feed = pumped()
    for state in (b"Loading:   0%", b"Loading:  50%", b"Loading: 100%"):
        feed.write(b"\r" + state)
        assert feed.next_line().text == state.decode()
    feed.write(b"\nnext\n")
    assert [line.text for line in feed.finish()] == ["next"]
    assert_all_counted(feed.pump)


def test_a_flood_keeps_what_matters_and_counts_the_rest(pumped: Callable[..., Pumped]) -> None:
    feed = pumped(important=lambda line: "OutOfMemoryError" in line)
    flood = b"INFO nothing new here\n" * 100_000
    feed.write(flood + b"torch.OutOfMemoryError: first\n" + flood + b"torch.OutOfMemoryError: second\n" + flood)
    lines = feed.finish()
    assert [line.text for line in lines if "Error" in line.text] == [
        "torch.OutOfMemoryError: first",
        "torch.OutOfMemoryError: second",
    ]
    assert len(lines) < 100_000
    assert feed.pump.dropped_bytes > 0
    assert sum(line.dropped_bytes for line in lines) == feed.pump.dropped_bytes
    assert_all_counted(feed.pump)


def test_a_consumer_that_is_behind_gets_only_what_matters(pumped: Callable[..., Pumped]) -> None:
    feed = pumped(important=lambda line: line.startswith("ERROR"), backlog=lambda: log_pump.BACKLOG_LINES)
    feed.write(b"INFO 1\nERROR 2\nINFO 3\n")
    lines = feed.finish()
    assert [(line.text, line.dropped_bytes) for line in lines] == [("ERROR 2", 7), ("", 7)]
    assert_all_counted(feed.pump)


def test_a_consumer_that_is_hopelessly_behind_gets_nothing_but_the_count(pumped: Callable[..., Pumped]) -> None:
    feed = pumped(important=lambda line: True, backlog=lambda: 10 * log_pump.BACKLOG_LINES)
    feed.write(b"ERROR 1\n")
    assert [(line.text, line.dropped_bytes) for line in feed.finish()] == [("", 8)]
    assert_all_counted(feed.pump)


def test_a_consumer_that_hangs_does_not_stop_the_child(tmp_path: Path) -> None:
    released = threading.Event()

    def hang(line: Observation) -> None:
        released.wait(PATIENCE_SECONDS)

    reading, writing = os.pipe()
    pump = LogPump(
        os.fdopen(reading, "rb", buffering=0),
        tmp_path / "engine.log",
        attempt=1,
        emit=hang,
    )
    pump.start()
    tracemalloc.start()
    block = b"a line of the log\n" * 4096
    for _ in range(1000):  # 74 MB: far more than the pipe and the buffers hold
        view = memoryview(block)
        while view:
            view = view[os.write(writing, view) :]
    os.close(writing)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    released.set()
    assert peak_bytes < 48 * MIB
    assert pump.wait(PATIENCE_SECONDS)
    assert pump.read_bytes == 1000 * len(block)
    assert pump.dropped_bytes > 0
    assert_all_counted(pump)


def test_a_file_that_fails_is_told_as_a_line(tmp_path: Path) -> None:
    (tmp_path / "engine.log").mkdir()
    feed = Pumped(tmp_path)
    feed.write(b"the engine speaks on\n")
    texts = sorted(line.text for line in feed.finish())
    assert texts[0].startswith("[nexus_orch] engine.log cannot be written (Is a directory)")
    assert texts[1:] == ["the engine speaks on"]
    assert feed.pump.file.dropped_bytes == 21
    assert_all_counted(feed.pump)


def test_the_log_of_a_flooding_engine_is_cut_over(start: Start, free_port: int) -> None:
    behaviour = FakeEngine(flood_mb_per_second=200, flood_seconds=0.5)
    watched = start(behaviour.command(free_port), limit_bytes=1_000_000, important=lambda line: "startup" in line)
    watched.wait_until_ready()
    watched.stop()
    watched.wait_for_exit()
    pump = watched.pump
    assert pump.wait(PATIENCE_SECONDS)
    pieces = [watched.log_path, watched.log_path.with_name("engine.log.1")]
    assert all(0 < piece.stat().st_size <= 1_000_100 for piece in pieces)
    assert_all_counted(pump)


def test_bytes_of_a_fast_child_are_all_counted(start: Start) -> None:
    code = "import os\nblock = b'x' * 99 + b'\\n'\nfor _ in range(300): os.write(1, block * 1000)"
    watched = start(python(code))
    watched.wait_for_exit()
    assert watched.pump.wait(PATIENCE_SECONDS)
    assert watched.pump.read_bytes == 30_000_000
    assert_all_counted(watched.pump)


def test_a_full_buffer_drops_until_it_is_taken() -> None:
    buffer = LogBuffer(capacity_bytes=10)
    buffer.put(b"12345678")
    buffer.put(b"901")
    buffer.put(b"2")  # would fit, but the gap must stay at the end
    assert buffer.take() == Taken(bytearray(b"12345678"), 4)
    buffer.put(b"3")
    buffer.close()
    assert buffer.take() == Taken(bytearray(b"3"), 0)
    assert buffer.take() is None


def test_an_empty_buffer_waits_no_longer_than_asked() -> None:
    assert LogBuffer().take(timeout_seconds=0.01) == Taken(bytearray())
