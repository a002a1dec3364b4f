"""A child that prints 50 MB/s is never blocked by the log pump, and the pump's memory stays bounded.

The child wants to print 60 MB/s for ten seconds and measures what it achieves; first into /dev/null, then into the
pump of a process that does with lines what a session does: ask the judge which matter (here: all), write the file, put
them on a queue.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import psutil

from nexus_orch.contracts import ByteStream, EngineStart
from nexus_orch.judge.log.important import is_important
from nexus_orch.launch.log.pump import LogPump
from nexus_orch.launch.processes.process import start_child
from nexus_orch.types import MIB, Command, Exited, LogLine, Observation

SECONDS = 10.0
WANTED_MB_PER_SECOND = 60.0
GOAL_MB_PER_SECOND = 50.0
GOAL_RATIO = 0.95
GOAL_RSS_GROWTH_MIB = 100.0

CHILD = """
import os, sys, time
line = b"(EngineCore pid=1789) INFO 11-22 12:31:53 [gpu_worker.py:538] Available KV cache memory: 57.21 GiB\\n"
block = line * 600
rate, seconds = float(sys.argv[1]) * 1e6, float(sys.argv[2])
started, sent, waited = time.perf_counter(), 0, 0.0
while (passed := time.perf_counter() - started) < seconds:
    if sent > passed * rate:
        time.sleep(0.0002)
        continue
    before = time.perf_counter()
    sent += os.write(1, block)
    waited = max(waited, time.perf_counter() - before)
with open(sys.argv[3], "w") as result:
    result.write(f"{sent / passed / 1e6} {waited} {sent}")
"""


@dataclass(frozen=True)
class Result:
    mb_per_second: float
    longest_write_seconds: float
    sent_bytes: int


def main() -> int:
    """Print the table; 0 when the goals are met, 1 otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        result_path = Path(folder) / "result"
        argv = (sys.executable, "-c", CHILD, str(WANTED_MB_PER_SECOND), str(SECONDS), str(result_path))
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        free = _read_result(result_path)
        queue: Queue[Observation] = Queue()
        watch = _RssWatch()

        def pump(source: ByteStream) -> LogPump:
            log = LogPump(
                source,
                Path(folder) / "engine.log",
                attempt=1,
                emit=queue.put,
                limit_bytes=64 * MIB,
                important=is_important,
                backlog=queue.qsize,
            )
            log.start()
            pumps.append(log)
            return log

        pumps: list[LogPump] = []
        start_child(EngineStart(Command(argv), "flood", 1, queue.put, pump))
        lines = _consume(queue)
        growth_mib = watch.stop() / MIB
        pumped = _read_result(result_path)
        (log,) = pumps
    ratio = pumped.mb_per_second / free.mb_per_second
    counted = log.read_bytes == pumped.sent_bytes == log.file.written_bytes + log.file.dropped_bytes
    counted = counted and log.read_bytes == log.passed_bytes + log.dropped_bytes
    print(f"child into /dev/null        {free.mb_per_second:8.1f} MB/s")
    print(f"child into the pump         {pumped.mb_per_second:8.1f} MB/s   goal: at least {GOAL_MB_PER_SECOND:g}")
    print(f"ratio                       {ratio:8.3f}        goal: at least {GOAL_RATIO:g}")
    print(f"longest write of the child  {pumped.longest_write_seconds * 1000:8.1f} ms")
    print(f"growth of the pump's RSS    {growth_mib:8.1f} MiB    goal: at most {GOAL_RSS_GROWTH_MIB:g}")
    print(f"written to engine.log       {log.file.written_bytes / 1e6:8.1f} MB")
    print(f"marked as dropped there     {log.file.dropped_bytes / 1e6:8.1f} MB")
    print(f"lines passed on             {lines:8d}")
    print(f"every byte counted          {counted!s:>8}")
    met = pumped.mb_per_second >= GOAL_MB_PER_SECOND and ratio >= GOAL_RATIO and growth_mib <= GOAL_RSS_GROWTH_MIB
    return 0 if met and counted else 1


def _consume(queue: Queue[Observation]) -> int:
    """Take observations as a session does, until the child has ended; gives the number of lines."""
    lines = 0
    while not isinstance(observation := queue.get(), Exited):
        lines += isinstance(observation, LogLine)
    return lines


def _read_result(path: Path) -> Result:
    rate, longest, sent = path.read_text(encoding="utf-8").split()
    return Result(float(rate), float(longest), int(sent))


class _RssWatch:
    """The largest RSS of this process since the start, above that at the start."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._first = self._most = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The growth in bytes."""
        self._stop.set()
        self._thread.join()
        return self._most - self._first

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._most = max(self._most, self._process.memory_info().rss)


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{'met' if code == 0 else 'MISSED'} in {time.monotonic() - started:.0f} s")
    sys.exit(code)
