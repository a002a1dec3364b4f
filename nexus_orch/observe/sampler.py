"""A thread that looks at the cards, the host, the engine's processes and the server once a second, and costs little.

Which processes are the engine's is for the engine to say (`RunningEngine.family`); they are asked through handles that
are kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psutil

from nexus_orch.nvml import Nvml, open_nvml
from nexus_orch.observe.metrics import MetricsReader, MetricsServer
from nexus_orch.types import Emit, GpuSample, HostSample, Metric, MetricsUnread, ProcessKey, ProcessSample

INTERVAL_SECONDS = 1.0
TELL_AGAIN_SECONDS = 5.0
SAME_SECONDS = 2.0
"""Start times of one process that differ by less are the same: the kernel's boot time moves with the clock."""

FindProcesses = Callable[[], Sequence[ProcessKey]]


class Sampler:
    """Emits `GpuSample` for each card, `HostSample`, and once the server listens `Metric`, or `MetricsUnread`."""

    def __init__(
        self,
        server: MetricsServer | None,
        *,
        family: FindProcesses | None,
        attempt: int,
        emit: Emit,
        interval_seconds: float = INTERVAL_SECONDS,
        gpu_indices: tuple[int, ...] | None = None,
        is_ours: Callable[[], bool] | None = None,
    ) -> None:
        """`family` tells the engine's processes, which are sampled. `gpu_indices` None means all cards. `is_ours`
        says whether the engine itself listens on the server's port; until then the metrics are not asked for."""
        self._server = server
        self._attempt = attempt
        self._emit = emit
        self._interval_seconds = interval_seconds
        self._gpu_indices = gpu_indices
        self._is_ours = is_ours or _always
        self._processes = None if family is None else SampledProcesses(family)
        self._news = MetricsNews()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexus-sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the sampling; returns when its thread has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with open_nvml() as nvml:
            if self._server is None:
                self._sample_until_stopped(nvml, None)
                return
            with MetricsReader(self._server, self._attempt) as reader:
                self._sample_until_stopped(nvml, reader)

    def _sample_until_stopped(self, nvml: Nvml, reader: MetricsReader | None) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            for sample in read_gpus(nvml, self._attempt, self._gpu_indices):
                self._emit(sample)
            self._emit(read_host(self._processes, self._attempt))
            if reader is not None and self._is_ours():
                read = reader.read(time.time())
                if self._news.is_news(read, time.monotonic()):
                    self._emit(read)
            due = max(due + self._interval_seconds, time.monotonic())
            self._stop.wait(due - time.monotonic())


class MetricsNews:
    """Which readings of a server are told: all that have figures; of those that have none each new reason, and the same
    one again every `TELL_AGAIN_SECONDS`, for a watch that begins when the server is ready and heard nothing before."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._told_at = 0.0

    def is_news(self, read: Metric | MetricsUnread, now: float) -> bool:
        """Whether a reading is told at the time `now`, in seconds of any clock that never goes back."""
        before, self._reason = self._reason, read.reason if isinstance(read, MetricsUnread) else None
        if self._reason is not None and self._reason == before and now - self._told_at < TELL_AGAIN_SECONDS:
            return False
        self._told_at = now
        return True


class SampledProcesses:
    """The engine's processes, with handles that remember the CPU time of the look before."""

    def __init__(self, family: FindProcesses) -> None:
        self._family = family
        self._handles: dict[ProcessKey, psutil.Process] = {}

    def read(self) -> tuple[ProcessSample, ...]:
        """One sample of each process that lives, the main process first. The first look at one tells no CPU use."""
        keys = dict.fromkeys(self._family())
        self._handles = {key: self._handles[key] for key in keys if key in self._handles}
        samples = [self._read_process(key) for key in keys]
        return tuple(sample for sample in samples if sample is not None)

    def _read_process(self, key: ProcessKey) -> ProcessSample | None:
        try:
            if key not in self._handles:
                self._handles[key] = psutil.Process(key.pid)
            handle = self._handles[key]
            if abs(handle.create_time() - key.create_time) > SAME_SECONDS:
                return None  # another process has its pid by now
            with handle.oneshot():
                name, memory = handle.name(), handle.memory_info()
                shared = int(getattr(memory, "shared", 0))  # Linux alone tells it
                cpu = handle.cpu_percent() / 100
                return ProcessSample(key.pid, name, memory.rss, cpu, min(shared, memory.rss))
        except psutil.Error:  # it has ended
            self._handles.pop(key, None)
            return None


def read_gpus(nvml: Nvml, attempt: int, indices: tuple[int, ...] | None = None) -> list[GpuSample]:
    """The state of the cards now. A card that does not answer is left out."""
    samples = []
    for device in nvml.devices:
        if indices is not None and device.index not in indices:
            continue
        reading = nvml.read(device.index)
        if reading is not None:
            samples.append(
                GpuSample(
                    time=time.time(),
                    attempt=attempt,
                    index=device.index,
                    name=device.name,
                    memory_used_bytes=reading.memory_used_bytes,
                    memory_total_bytes=reading.memory_total_bytes,
                    utilization=reading.utilization,
                    temperature_celsius=reading.temperature_celsius,
                    power_watts=reading.power_watts,
                )
            )
    return samples


def read_host(processes: SampledProcesses | None, attempt: int) -> HostSample:
    """RAM and swap of the machine, and the engine's processes."""
    ram, swap = psutil.virtual_memory(), psutil.swap_memory()
    return HostSample(
        time=time.time(),
        attempt=attempt,
        ram_used_bytes=ram.total - ram.available,
        ram_total_bytes=ram.total,
        swap_used_bytes=swap.used,
        swap_total_bytes=swap.total,
        processes=() if processes is None else processes.read(),
        swapped_bytes=swap.sin + swap.sout,
    )


def _always() -> bool:
    return True
