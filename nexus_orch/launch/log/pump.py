"""The pump between an engine's output and everyone who wants it: it never makes the engine wait.

    pipe --reader--> two bounded buffers --writer--> engine.log
                                         --lines---> LogLine observations

The reader does nothing but read. When the disk or the reader of the lines is too slow, bytes are dropped and counted,
in the file by a mark and in `LogLine.dropped_bytes`. Lines that matter are looked for in all that was kept, also when
ordinary lines are being dropped.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nexus_orch.contracts import ByteStream
from nexus_orch.launch.log.buffer import LogBuffer
from nexus_orch.launch.log.file import LogFile
from nexus_orch.launch.log.lines import Line, LineCutter, render_line
from nexus_orch.types import KIB, MIB, LogLine, Observation

READ_BYTES = 256 * KIB
BLOCK_BYTES = 256 * KIB
"""How much is cut into lines at once; bounds the memory of the lines."""

PROGRESS_SECONDS = 0.5
"""How often the state of an unfinished line (a progress bar) is told, when it changed."""

LINES_PER_SECOND = 1_000
IMPORTANT_LINES_PER_SECOND = 5_000
BURST_SECONDS = 5.0
"""Ordinary lines are passed on at 1,000 a second, important ones at 5,000, after a burst of five times as many."""

BACKLOG_LINES = 10_000
"""With so many observations waiting for the consumer, ordinary lines are dropped; with ten times as many, all are."""


class LogPump:
    """Reads `source` to its end in threads of its own.

    `important` tells the lines that are passed on even when others are dropped; `backlog` says how many observations
    wait for the consumer. The counters are exact once `wait` has answered True:
    `read_bytes == file.written_bytes + file.dropped_bytes == passed_bytes + dropped_bytes`.
    """

    def __init__(
        self,
        source: ByteStream,
        path: Path,
        *,
        attempt: int,
        emit: Callable[[Observation], None],
        limit_bytes: int = 256 * MIB,
        important: Callable[[str], bool] | None = None,
        backlog: Callable[[], int] | None = None,
    ) -> None:
        self.read_bytes = 0
        self.passed_bytes = 0
        """Bytes of the lines that were passed on."""
        self.dropped_bytes = 0
        """Bytes that were not."""
        self.file = LogFile(path, limit_bytes, self._tell)
        self._source = source
        self._attempt = attempt
        self._emit = emit
        self._important = important or _nothing_matters
        self._backlog = backlog or _nothing_waits
        self._for_file = LogBuffer()
        self._for_lines = LogBuffer()
        self._cutter = LineCutter()
        self._ordinary = _Budget(LINES_PER_SECOND)
        self._urgent = _Budget(IMPORTANT_LINES_PER_SECOND)
        self._untold_bytes = 0
        self._shown: bytes | None = None
        self._threads = [
            threading.Thread(target=run, name=f"nexus-log-{name}", daemon=True)
            for name, run in (("reader", self._read), ("writer", self._write), ("lines", self._pass_on))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_seconds: float) -> bool:
        """True once the output has ended and all of it is written and passed on.

        The end comes when every process that holds the pipe is gone, which may be later than the engine's own end.
        """
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _read(self) -> None:
        descriptor = self._source.fileno()
        with self._source:
            while piece := os.read(descriptor, READ_BYTES):
                self.read_bytes += len(piece)
                self._for_file.put(piece)
                self._for_lines.put(piece)
        self._for_file.close()
        self._for_lines.close()

    def _write(self) -> None:
        while (taken := self._for_file.take()) is not None:
            self.file.write(taken.data)
            self.file.drop(taken.dropped_bytes)
        self.file.close()

    def _pass_on(self) -> None:
        while (taken := self._for_lines.take(PROGRESS_SECONDS)) is not None:
            for start in range(0, len(taken.data), BLOCK_BYTES):
                self._pass_block(self._cutter.feed(bytes(taken.data[start : start + BLOCK_BYTES])))
            self._drop(taken.dropped_bytes)
            self._show_unfinished()
        self._pass_block(self._cutter.finish())
        if self._untold_bytes:
            self._send("")

    def _pass_block(self, lines: list[Line]) -> None:
        """Pass on what the budgets allow. This loop must stay cheap: it sees every line of a flood."""
        waiting = self._backlog()
        ordinary = self._ordinary.refill() if waiting < BACKLOG_LINES else 0
        urgent = self._urgent.refill() if waiting < 10 * BACKLOG_LINES else 0
        passed = passed_urgent = 0
        for line, size in lines:
            if passed < ordinary:
                passed += 1
            elif passed_urgent < urgent and self._important(render_line(line)):
                passed_urgent += 1
            else:
                self._drop(size)
                continue
            self.passed_bytes += size
            if line != self._shown:
                self._send(render_line(line))
            self._shown = None
        self._ordinary.left -= passed
        self._urgent.left -= passed_urgent

    def _show_unfinished(self) -> None:
        """Tell the state of a progress bar. Its bytes are counted when the line ends."""
        state = self._cutter.unfinished
        if state and state != self._shown and self._ordinary.refill() >= 1:
            self._ordinary.left -= 1
            self._shown = state
            self._send(render_line(state))

    def _drop(self, count: int) -> None:
        self.dropped_bytes += count
        self._untold_bytes += count

    def _tell(self, text: str) -> None:
        self._emit(LogLine(time.time(), self._attempt, f"[nexus_orch] {text}"))

    def _send(self, text: str) -> None:
        dropped_bytes, self._untold_bytes = self._untold_bytes, 0
        self._emit(LogLine(time.time(), self._attempt, text, dropped_bytes))


class _Budget:
    """How many lines may pass: `rate` a second, and a burst after a quiet time."""

    def __init__(self, rate: float) -> None:
        self.left = rate * BURST_SECONDS
        self._rate = rate
        self._refilled = time.monotonic()

    def refill(self) -> float:
        """What may pass now."""
        now = time.monotonic()
        self.left = min(self.left + (now - self._refilled) * self._rate, self._rate * BURST_SECONDS)
        self._refilled = now
        return self.left


def _nothing_matters(line: str) -> bool:
    return False


def _nothing_waits() -> int:
    return 0
