"""Taking an engine down: every process of it gone, and the memory of its cards back, whatever happened before."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from nexus_orch.contracts import RunningEngine, StopReport
from nexus_orch.errors import Problem
from nexus_orch.launch.processes.gpu_memory import GpuHoldings, read_gpu_holdings, wait_for_gpu_memory
from nexus_orch.nvml import Nvml, open_nvml

GPU_RELEASE_SECONDS = 30.0
"""The driver gives a large card's memory back within seconds; what takes longer hangs."""


class Release:
    """How an engine is taken down, once: by `take_down`, or by leaving the context `releasing`."""

    def __init__(self, nvml: Nvml, gpus: Collection[int], stop_seconds: float, hurry: threading.Event) -> None:
        self.engine: RunningEngine | None = None
        """Set as soon as it was started."""
        self.report: StopReport | None = None
        """None until it was taken down."""
        self.problems: tuple[Problem, ...] = ()
        """What was left behind."""
        self._nvml = nvml
        self._gpus = gpus
        self._stop_seconds = stop_seconds
        self._hurry = hurry
        self._before_start: GpuHoldings = read_gpu_holdings(nvml, gpus)

    def take_down(self) -> None:
        """Stop every process of the engine and wait for its cards. Does nothing the second time."""
        if self.engine is None or self.report is not None:
            return
        self.engine.look()
        pids = [key.pid for key in self.engine.family()]
        before_stop = read_gpu_holdings(self._nvml, self._gpus, pids)
        self.report = self.engine.stop(stop_seconds=self._stop_seconds, hurry=self._hurry)
        self.engine.wait(self._stop_seconds)
        stuck = wait_for_gpu_memory(
            self._nvml, self._before_start, before_stop, pids, timeout_seconds=GPU_RELEASE_SECONDS
        )
        self.problems = (*self.report.problems, *stuck)


@contextmanager
def releasing(gpus: Collection[int], stop_seconds: float, hurry: threading.Event) -> Iterator[Release]:
    """Whatever ends this context ends the engine that was started in it. `gpus` are its cards by NVML's index."""
    with open_nvml() as nvml:
        release = Release(nvml, gpus, stop_seconds, hurry)
        try:
            yield release
        finally:
            release.take_down()
