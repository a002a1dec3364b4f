"""Helpers for tests with real processes: an engine whose observations can be waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psutil

from nexus_orch.contracts import ByteStream, EngineStart, StopReport
from nexus_orch.launch.log.pump import LogPump
from nexus_orch.launch.processes.process import ChildEngine, start_child
from nexus_orch.types import Command, Emit, Exited, LogLine, Observation, ProcessKey

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must come; only a hanging test ever waits so long."""


def make_start(command: Command, log_path: Path, emit: Emit, **options: Any) -> EngineStart:
    """A start whose output goes to that file; `options` are those of `LogPump`."""

    def pump(source: ByteStream) -> LogPump:
        log = LogPump(source, log_path, attempt=1, emit=emit, **options)
        log.start()
        return log

    return EngineStart(command, "run-1", 1, emit, pump)


class Watched:
    """A started engine and everything that it has told."""

    def __init__(self, command: Command, folder: Path, **options: Any) -> None:
        self.queue: Queue[Observation] = Queue()
        self.seen: list[Observation] = []
        self.log_path = folder / "engine.log"
        self.engine: ChildEngine = start_child(make_start(command, self.log_path, self.queue.put, **options))

    @property
    def pump(self) -> LogPump:
        assert isinstance(self.engine.output, LogPump)
        return self.engine.output

    @property
    def lines(self) -> list[LogLine]:
        return [observation for observation in self.seen if isinstance(observation, LogLine)]

    def wait_for(self, wanted: Callable[[Observation], bool]) -> Observation:
        """The first observation that is wanted, seen already or to come."""
        for observation in self.seen:
            if wanted(observation):
                return observation
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.seen.append(self.queue.get(timeout=0.1))
            except Empty:
                continue
            if wanted(self.seen[-1]):
                return self.seen[-1]
        raise AssertionError(f"it never came; the last seen: {self.seen[-5:]}")

    def wait_for_line(self, text: str) -> LogLine:
        line = self.wait_for(lambda seen: isinstance(seen, LogLine) and text in seen.text)
        assert isinstance(line, LogLine)
        return line

    def wait_for_exit(self) -> Exited:
        exited = self.wait_for(lambda seen: isinstance(seen, Exited))
        assert isinstance(exited, Exited)
        return exited

    def wait_until_ready(self) -> None:
        self.wait_for_line("Application startup complete")

    def wait_for_family(self, size: int) -> tuple[ProcessKey, ...]:
        """Main process and descendants, once there are so many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.engine.family()) < size:
            assert time.monotonic() < deadline
            self.engine.look()
        return self.engine.family()

    def stop(self, stop_seconds: float = 10.0) -> StopReport:
        return self.engine.stop(stop_seconds=stop_seconds)


def python(code: str, *arguments: str) -> Command:
    """A child that runs this code."""
    return Command(argv=(sys.executable, "-c", code, *arguments))


def is_gone(key: ProcessKey) -> bool:
    """True when this very process has ended with all its threads."""
    try:
        process = psutil.Process(key.pid)
        if abs(process.create_time() - key.create_time) > 2:
            return True
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1
    except psutil.NoSuchProcess:
        return True
