"""A reader that stops reading stops nobody: text waits, then is left out and counted. The reader is the other end of a
real pipe, which takes 64 KiB and then blocks its writer, as a terminal does after Ctrl-S."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from nexus_orch.view.detached import DetachedStream
from nexus_orch.view.jsonl import render_json_gap
from nexus_orch.view.plain import render_plain_gap
from nexus_orch.view.run_view import make_view
from tests.view.histories import replay_all

LINE = "x" * 999 + "\n"
PIPE_LINES = 100
"""More than a pipe takes."""


@dataclass
class Pipe:
    """Both ends; nothing is read until `read_all`, which reads until the writing end is closed."""

    reader: int
    writer: int
    read: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = os.fdopen(self.writer, "w", encoding="utf-8")
        self._thread = threading.Thread(target=self._read)

    def start_reading(self) -> None:
        self._thread.start()

    def text(self) -> str:
        """All that was written; the stream is closed."""
        self.stream.close()
        self._thread.join(60)
        return b"".join(self.read).decode()

    def _read(self) -> None:
        while chunk := os.read(self.reader, 1 << 16):
            self.read.append(chunk)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())
    yield pipe
    pipe.stream.close()
    os.close(pipe.reader)


def test_all_is_handed_on_in_order(pipe: Pipe) -> None:
    stream = DetachedStream(pipe.stream)
    for number in range(1000):
        stream.write(f"{number}\n")
    pipe.start_reading()
    stream.close()
    assert pipe.text().split() == [str(number) for number in range(1000)]


def test_a_reader_that_stops_does_not_stop_the_writer(pipe: Pipe) -> None:
    stream = DetachedStream(pipe.stream, most_characters=10 * len(LINE), render_gap=render_plain_gap)
    for _ in range(2 * PIPE_LINES):
        assert stream.write(LINE) == len(LINE)
    pipe.start_reading()
    stream.close()
    lines = pipe.text().splitlines()
    assert 10 <= len(lines) < 2 * PIPE_LINES
    left_out = 2 * PIPE_LINES - (len(lines) - 1)
    assert lines[-1].strip() == f"{left_out} lines were left out, because nothing read them; the journal has them all"


def test_frames_are_left_out_without_a_word(pipe: Pipe) -> None:
    stream = DetachedStream(pipe.stream, most_characters=10 * len(LINE))
    for _ in range(2 * PIPE_LINES):
        stream.write(LINE)
    pipe.start_reading()
    stream.close()
    assert set(pipe.text().splitlines()) == {LINE.strip()}


def test_the_gap_is_told_where_it_is(pipe: Pipe) -> None:
    stream = DetachedStream(pipe.stream, most_characters=1, render_gap=render_json_gap)
    for _ in range(2 * PIPE_LINES):
        stream.write(LINE)
    pipe.start_reading()
    while not stream.is_read_up:
        time.sleep(0.01)
    stream.write("after\n")
    stream.close()
    *_, gap, after = pipe.text().splitlines()
    assert json.loads(gap)["kind"] == "gap" and json.loads(gap)["lines"] > 0
    assert after == "after"


def test_a_stream_that_was_closed_is_told_by_a_later_write() -> None:
    closed = io.StringIO()
    closed.close()
    stream = DetachedStream(closed)
    with pytest.raises(ValueError, match="closed file"):
        while True:
            stream.write(LINE)
            time.sleep(0.01)
    stream.close()


@pytest.mark.parametrize("view_format", ["plain", "json", "live"])
def test_a_view_that_is_closed_has_written_all(pipe: Pipe, view_format: str) -> None:
    pipe.start_reading()
    view = make_view(view_format, pipe.stream)  # type: ignore[arg-type]
    replay_all(view)
    view.close()
    assert "ready" in pipe.text()
