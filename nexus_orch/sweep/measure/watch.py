"""What disturbs a measurement while it is taken: kernels that are compiled, a card that throttles, neighbours."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from nexus_orch.nvml import Nvml, open_nvml
from nexus_orch.sweep.measure.types import BenchTarget

INTERVAL_SECONDS = 1.0
THROTTLED_SHARE = 0.1
"""A card that throttled in a larger share of the looks was not measured as it is."""
BUSY_CORES_SHARE = 0.1
"""Processes that are not the engine's and take a larger share of all cores are told."""

_COMPILING = re.compile(
    r"during inference: |"  # utils/jit_monitor.py: "Triton kernel JIT compilation during inference: fused_moe_kernel."
    r"torch\.compile (?:takes|took)|"  # compilation/monitor.py
    r"Compiling a graph for|"  # compilation/backends.py
    r"Capturing (?:the model for )?CUDA ?graph|"  # v1/worker/gpu_model_runner.py
    r"Autotuning kernel|"  # triton, with TRITON_PRINT_AUTOTUNING
    r"autotun(?:ing|e) .*(?:start|took)",  # model_executor/warmup/kernel_warmup.py
    re.IGNORECASE,
)


@dataclass
class Disturbance:
    """What was seen. `spoilt` are reasons why the measurement says nothing, `notes` what its reader should know."""

    spoilt: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@contextmanager
def watching(target: BenchTarget) -> Iterator[Disturbance]:
    """Watch the target while the block runs; the disturbance is complete behind the block."""
    found = Disturbance()
    place = _size_of(target.log)
    cards = _CardWatch(target)
    cards.start()
    cores = _CoreUse(target)
    try:
        yield found
    finally:
        cards.stop()
    found.spoilt += find_compilation(_read_from(target.log, place))
    found.spoilt += cards.find_disturbances()
    found.notes += cores.find_neighbours()


def find_compilation(text: str) -> list[str]:
    """Why lines of an engine's log spoil what was measured meanwhile; empty when nothing was compiled."""
    lines = [line for line in text.splitlines() if _COMPILING.search(line)]
    if not lines:
        return []
    more = f" ({len(lines)} such lines)" if len(lines) > 1 else ""
    return [f"the engine compiled while it was measured{more}: {_message_of(lines[0])}"]


def _message_of(line: str) -> str:
    """A line of the log without process, level and date."""
    return line.rpartition("] ")[2].strip()[:200]


def _size_of(log: Path | None) -> int:
    try:
        return 0 if log is None else log.stat().st_size
    except OSError:
        return 0


def _read_from(log: Path | None, place: int) -> str:
    """What was added to a log behind a place; all of it when it was cut over meanwhile."""
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            if file.seek(0, os.SEEK_END) >= place:
                file.seek(place)
            else:
                file.seek(0)
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


class _CardWatch:
    """Looks at the cards once a second."""

    def __init__(self, target: BenchTarget) -> None:
        self._gpus = target.gpus
        self._looks = 0
        self._throttled: dict[str, int] = {}
        self._users: dict[int, set[int]] = {}
        self._joined: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexus-bench-cards", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def find_disturbances(self) -> list[str]:
        """Throttling for more than a moment, and processes that came to the cards meanwhile."""
        found = [
            f"the card throttled in {count} of {self._looks} looks: {reason}"
            for reason, count in sorted(self._throttled.items())
            if count > THROTTLED_SHARE * self._looks
        ]
        if self._joined:
            found.append(f"another process came to the card (pid {', '.join(map(str, sorted(self._joined)))})")
        return found

    def _run(self) -> None:
        if self._gpus == ():
            return
        with open_nvml() as nvml:
            indices = [card.index for card in nvml.devices if self._gpus is None or card.index in self._gpus]
            while indices and not self._stop.is_set():
                self._look(nvml, indices)
                self._stop.wait(INTERVAL_SECONDS)

    def _look(self, nvml: Nvml, indices: list[int]) -> None:
        self._looks += 1
        reasons = {reason for index in indices for reason in nvml.throttles(index)}
        for reason in reasons:
            self._throttled[reason] = self._throttled.get(reason, 0) + 1
        for index in indices:
            users = {process.pid for process in nvml.processes(index)}
            self._joined |= users - self._users.setdefault(index, users)


class _CoreUse:
    """What others than the engine take of the machine's cores, from now on."""

    def __init__(self, target: BenchTarget) -> None:
        self._family = target.family
        self._started = time.monotonic()
        self._busy = self._busy_seconds()
        self._own = self._own_seconds()

    def find_neighbours(self) -> list[str]:
        if self._family is None:
            return []
        seconds = time.monotonic() - self._started
        others = self._busy_seconds() - self._busy - (self._own_seconds() - self._own)
        share = others / (seconds * (psutil.cpu_count() or 1)) if seconds > 0 else 0.0
        if share <= BUSY_CORES_SHARE:
            return []
        return [f"other processes (the client among them) took {share:.0%} of the machine's cores"]

    @staticmethod
    def _busy_seconds() -> float:
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))

    def _own_seconds(self) -> float:
        total = 0.0
        for key in () if self._family is None else self._family():
            try:
                used = psutil.Process(key.pid).cpu_times()
            except psutil.Error:  # it has ended
                continue
            total += used.user + used.system
        return total
