"""Lessons: what launches and the bus taught, which a later plan takes instead of its own estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PASS_PEAK, COMPILED_PEAK = "measured.activation_bytes", "measured.compiled_activation_bytes"
"""Quantities of a lesson: the peak of the profile of an eager start, and of one that may have compiled the model: that
of compiling it, or of the forward pass alone where it had been compiled before."""
COPY_RATE = "machine.copy_bytes_per_second"
READ_RATE = "machine.read_bytes_per_second"
"""Keys of the bus's lessons, followed by the index of the card: the rate of a copy from pinned memory, and the rate at
which a matrix product reads its weights there."""
LAYER_READS = "machine.layer_reads"
"""Key, followed by the index of the card, of what was measured of whole layers: a tuple of `LayerRead`."""
RAM_RATE = "machine.ram_bandwidth_bytes_per_second"
"""What all processors together read of RAM."""


@dataclass(frozen=True)
class LayerRead:
    """One layer whose matrices a card reads in place, over the bus. `matrices` are rows and columns in the order of the
    layer, `rates` pairs of tokens and bytes per second, each weight counted once."""

    matrices: tuple[tuple[int, int], ...]
    rates: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Lesson:
    """One fact that a launch measured; `make_plan` uses it instead of its own estimate.

    Keys are dotted names of measured quantities, for example "measured.weights_bytes" or "machine.free_bytes.0".
    """

    key: str
    value: Any
    source: str
