"""Samples in bounded space: thinned history in the journal, the newest ones and the peaks in latest.json.

A series (the metrics, one GPU, the host, one kind of probe) starts with a sample each second. From the tenth minute
on, the distance between two samples is a six-hundredth of the series' age: its n-th sample after those first 600 comes
at about 600 * exp(n / 600) seconds, so a day holds some 3,600 samples, a week 4,800 and a year 7,200. What lies between
two samples is not lost: the peaks of every value are kept exactly, and latest.json is as new as the last second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path

from nexus_orch.files import write_atomic
from nexus_orch.record.codec import decode, encode
from nexus_orch.record.events import Sample
from nexus_orch.types import GpuSample, HostSample, Metric, Probed

SHORTEST_INTERVAL_SECONDS = 1.0
SAMPLES_PER_AGE = 600


@dataclass(frozen=True)
class Peaks:
    """The highest values of a run. Bytes; metrics by their names; GPUs by their index, written as text."""

    gpu_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    ram_bytes: int = 0
    swap_bytes: int = 0
    engine_rss_bytes: int = 0
    """Resident memory of all engine processes together (`HostSample.engine_bytes`)."""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def including(self, sample: Sample) -> Peaks:
        """These peaks, raised where the sample is higher."""
        match sample:
            case GpuSample():
                index = str(sample.index)
                peak = max(sample.memory_used_bytes, self.gpu_memory_bytes.get(index, 0))
                return replace(self, gpu_memory_bytes={**self.gpu_memory_bytes, index: peak})
            case HostSample():
                return replace(
                    self,
                    ram_bytes=max(self.ram_bytes, sample.ram_used_bytes),
                    swap_bytes=max(self.swap_bytes, sample.swap_used_bytes),
                    engine_rss_bytes=max(self.engine_rss_bytes, sample.engine_bytes),
                )
            case Metric():
                seen = {name: value for name, value in sample.values.items() if not isnan(value)}
                raised = {name: max(value, self.metrics.get(name, value)) for name, value in seen.items()}
                return replace(self, metrics={**self.metrics, **raised})


@dataclass(frozen=True)
class Latest:
    """The state of a run's samples: the newest of each series, the peaks, and how much engine output was dropped.

    The cards are those of the newest attempt: the next one may be planned on others.
    """

    time: float = 0.0
    metric: Metric | None = None
    gpus: tuple[GpuSample, ...] = ()
    host: HostSample | None = None
    peaks: Peaks = field(default_factory=Peaks)
    dropped_bytes: int = 0

    def including(self, sample: Sample) -> Latest:
        """This state with a newer sample in its place."""
        newer = replace(self, time=sample.time, peaks=self.peaks.including(sample))
        match sample:
            case GpuSample():
                others = [gpu for gpu in self.gpus if gpu.attempt == sample.attempt and gpu.index != sample.index]
                return replace(newer, gpus=tuple(sorted([*others, sample], key=lambda gpu: gpu.index)))
            case HostSample():
                return replace(newer, host=sample)
            case Metric():
                return replace(newer, metric=sample)

    def losing(self, dropped_bytes: int) -> Latest:
        """This state after so many more bytes of output were dropped."""
        return replace(self, dropped_bytes=self.dropped_bytes + dropped_bytes)

    def without_engine(self) -> Latest:
        """This state when another engine is started: its cards may be others, and it has told nothing yet."""
        return replace(self, metric=None, gpus=())


class SampleThinner:
    """Says which samples of each series the journal keeps. It looks at the samples' own times, never at a clock."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], float] = {}
        self._last: dict[tuple[object, ...], float] = {}

    def wants(self, sample: Sample | Probed) -> bool:
        """Whether this sample is due; the series remembers it then."""
        series = _series(sample)
        first = self._first.setdefault(series, sample.time)
        interval = max(SHORTEST_INTERVAL_SECONDS, (sample.time - first) / SAMPLES_PER_AGE)
        if series in self._last and abs(sample.time - self._last[series]) < interval:
            return False  # abs: a clock that was set back must not silence the series
        self._last[series] = sample.time
        return True


def _series(sample: Sample | Probed) -> tuple[object, ...]:
    match sample:
        case GpuSample(index=index):
            return ("gpu", index)
        case Probed(kind=kind, ok=ok):
            return (kind, ok)
    return (type(sample).__name__,)


def write_latest(path: Path, latest: Latest) -> None:
    """Replace latest.json. Not durable: it is written again within a second. Raises OSError."""
    write_atomic(path, json.dumps(encode(latest)), durable=False)


def read_latest(path: Path) -> Latest | None:
    """Read latest.json; None when there is none that can be understood."""
    try:
        return decode(Latest, json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
