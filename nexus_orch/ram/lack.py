"""What a lack of RAM looks like before the launch, in numbers and with what would do."""

from __future__ import annotations

from nexus_orch.errors import Problem
from nexus_orch.ram.reserve import Reservation
from nexus_orch.types import GIB

SWAPPED_SHARE = 0.01
"""Of the trial's own memory. A little of anything that is idle may be swapped out; more means that RAM ran short."""


def make_lack(wanted: int, planned: int, free: int) -> Problem:
    """Others have taken RAM since the run was planned: what it takes, what there was, and what there is."""
    return Problem(
        f"the run takes {wanted / GIB:.1f} GiB of host RAM: {planned / GIB:.1f} GiB were available when it was "
        f"planned, and {free / GIB:.1f} GiB are now",
        key="memory.reserve_host",
        value=True,
        remedy=_remedy(wanted - free),
        cause="host_oom",
    )


def find_lack(trial: Reservation) -> Problem | None:
    """What a trial that is over found missing."""
    wanted, held = trial.wanted_bytes, trial.held_bytes
    if trial.lack:
        what, missing = trial.lack, wanted - held
    elif trial.swapped_bytes > SWAPPED_SHARE * wanted:
        what, missing = f"{trial.swapped_bytes / GIB:.1f} GiB of it went to swap", trial.swapped_bytes
    else:
        return None
    return Problem(
        f"the run takes {wanted / GIB:.1f} GiB of host RAM, and only {held / GIB:.1f} GiB could be had: {what}",
        key="memory.reserve_host",
        value=True,
        remedy=_remedy(missing),
        cause="host_oom",
    )


def _remedy(missing: int) -> str:
    return (
        f"free {max(missing, 0) / GIB:.1f} GiB, or let the run take less: memory.cpu_offload_gib, "
        "memory.kv_cache.size_gib or model.max_model_len lower, a smaller or quantized model"
    )
