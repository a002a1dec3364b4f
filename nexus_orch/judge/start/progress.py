"""Does a start still move? Given up is on *no progress*, never on a deadline.

Progress is a new stage, a moving progress bar, a line that says something new, memory that fills, tokens that come. A
line that only repeats an earlier one with other numbers is none: vLLM prints some of them every minute while it hangs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nexus_orch.types import MIB, GpuSample, HostSample, Metric

REMEMBERED_LINES = 64
MEMORY_STEP_BYTES = 256 * MIB
"""Memory counts as progress when it exceeds all it was before by this much: weights that load in silence."""

_NUMBER = re.compile(r"\d+")
_COMPARED_CHARACTERS = 160
_TOKEN_RATES = ("generation_tokens_per_second", "prompt_tokens_per_second")


@dataclass(frozen=True)
class Progress:
    """`time` is that of the last progress; `peaks` is the most memory that was seen, by card and process tree."""

    time: float = 0.0
    recent: tuple[str, ...] = ()
    peaks: Mapping[str, int] = field(default_factory=dict)


def note_line(progress: Progress, time: float, message: str, *, moved: bool) -> Progress:
    """After a log line. `moved` is true when it changed the stage or a progress bar."""
    shape = _NUMBER.sub("#", message[:_COMPARED_CHARACTERS]).strip()
    if not shape or (shape in progress.recent and not moved):
        return progress
    recent = progress.recent if shape in progress.recent else (*progress.recent, shape)[-REMEMBERED_LINES:]
    return replace(progress, time=time, recent=recent)


def note_gpu(progress: Progress, sample: GpuSample) -> Progress:
    """After a reading of a card."""
    return _note_memory(progress, sample.time, f"gpu {sample.index}", sample.memory_used_bytes)


def note_host(progress: Progress, sample: HostSample) -> Progress:
    """After a reading of the engine's processes."""
    return _note_memory(progress, sample.time, "processes", sum(process.rss_bytes for process in sample.processes))


def is_working(metric: Metric) -> bool:
    """True when tokens went in or out since the reading before."""
    return any(metric.values.get(name, 0.0) > 0 for name in _TOKEN_RATES)


def _note_memory(progress: Progress, time: float, key: str, used_bytes: int) -> Progress:
    peak = progress.peaks.get(key)
    if peak is not None and used_bytes < peak + MEMORY_STEP_BYTES:
        return progress
    moved = replace(progress, peaks={**progress.peaks, key: used_bytes})
    return moved if peak is None else replace(moved, time=time)
