"""Whether the GPU memory of a stopped engine came back: without it the next start runs out of memory."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nexus_orch.errors import Problem
from nexus_orch.nvml import Nvml
from nexus_orch.types import GIB, MIB

TOLERANCE_BYTES = 256 * MIB
"""Contexts of other programs (a desktop, a monitor) come and go by so much."""

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class GpuHoldings:
    """Used bytes of each card by NVML's index, and whether NVML lists our own processes (it does not in containers)."""

    used_bytes: Mapping[int, int]
    sees_us: bool = False


def read_gpu_holdings(nvml: Nvml, gpus: Collection[int], pids: Collection[int] = ()) -> GpuHoldings:
    """What these cards hold now. Read it before a start, and before a stop with the pids of the engine."""
    readings = {index: nvml.read(index) for index in gpus}
    return GpuHoldings(
        used_bytes={index: reading.memory_used_bytes for index, reading in readings.items() if reading is not None},
        sees_us=any(_holds_memory(nvml, index, pids) for index in readings),
    )


def wait_for_gpu_memory(
    nvml: Nvml,
    before_start: GpuHoldings,
    before_stop: GpuHoldings,
    pids: Collection[int],
    *,
    timeout_seconds: float,
) -> tuple[Problem, ...]:
    """Wait until each card that was read before the start is free of the engine with these pids.

    The problems tell the cards that are not in time. A card is free when no more of it is used than before the start,
    or, where NVML has shown our processes, when it shows none of them any more (then somebody else uses the memory).
    """
    deadline = time.monotonic() + timeout_seconds
    ours = frozenset(pids) if before_stop.sees_us else None
    while True:
        excess = _read_excess(nvml, before_start, ours)
        if not excess or time.monotonic() >= deadline:
            return tuple(_describe(index, held_bytes, timeout_seconds) for index, held_bytes in excess.items())
        time.sleep(POLL_SECONDS)


def _read_excess(nvml: Nvml, before: GpuHoldings, ours: Collection[int] | None) -> dict[int, int]:
    """The bytes of each card that are not back, by its index."""
    excess = {}
    for index, before_bytes in before.used_bytes.items():
        reading = nvml.read(index)
        more = 0 if reading is None else reading.memory_used_bytes - before_bytes
        if more > TOLERANCE_BYTES and (ours is None or _holds_memory(nvml, index, ours)):
            excess[index] = more
    return excess


def _holds_memory(nvml: Nvml, index: int, pids: Collection[int]) -> bool:
    return any(process.pid in pids for process in nvml.processes(index))


def _describe(index: int, excess_bytes: int, seconds: float) -> Problem:
    return Problem(
        f"GPU {index} holds {excess_bytes / GIB:.1f} GiB more than before the start, {seconds:g} s after the stop",
        remedy="look for what holds it (nexus ps, nvidia-smi) and stop it; the next start would run out of memory",
        cause="orphan_holds_memory",
    )
