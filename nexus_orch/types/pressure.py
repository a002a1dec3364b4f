"""Finding: a lack of memory of a server, as it was observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PressureKind = Literal["preemptions", "kv_cache_full", "bus_bound", "ram_low", "swapping"]


@dataclass(frozen=True)
class Finding:
    """A lack that lasts, with its numbers: `running` and `waiting` are the means of the requests."""

    kind: PressureKind
    seconds: float
    evidence: str
    """One clause with the numbers: "17 preemptions a minute for 5 minutes: the KV cache is full at 12 requests"."""
    running: float = 0.0
    waiting: float = 0.0
    kv_cache_usage: float = 0.0
    peak_kv_cache_usage: float = 0.0

    @property
    def is_about_ram(self) -> bool:
        """Whether host RAM is what lacks, not room or bandwidth for the KV cache."""
        return self.kind in ("ram_low", "swapping")
