"""Host RAM: what a run takes of it and what there is."""

from __future__ import annotations

from nexus_orch.contracts import Placement
from nexus_orch.errors import Problem
from nexus_orch.plan.inputs import Inputs
from nexus_orch.types import GIB, MIB, HostEstimate

SERVER_BYTES = 1400 * MIB
WORKER_BYTES = 1100 * MIB
"""Resident memory of the server's processes, and of each rank: 2.4 GiB in all for one rank without offload, 3.5 GiB
with (vLLM 0.25.1 on an H100, host RAM before and after the start)."""
KV_OFFLOAD_FACTOR = 1.9
"""Host memory allocated for each byte of --kv-offloading-size, pinned and rounded up (vLLM 0.25.1, H100)."""


def estimate_host(inputs: Inputs, placement: Placement, ranks: int) -> HostEstimate:
    """RAM for the processes, the offloaded weights (pinned, so rounded up) and the offloaded KV cache."""
    kv_offload = int((inputs.spec.memory.kv_offload_gib or 0) * GIB * KV_OFFLOAD_FACTOR)
    host = inputs.facts.machine.host
    return HostEstimate(
        required_bytes=SERVER_BYTES + WORKER_BYTES * ranks + placement.host_bytes + kv_offload,
        available_bytes=max(0, host.ram_available_bytes - host.reserved_bytes),
        pinned_bytes=placement.pinned_bytes + kv_offload,
    )


def judge_host(inputs: Inputs, estimate: HostEstimate) -> list[Problem]:
    """Too little RAM, or too little that can be pinned."""
    found = []
    if estimate.required_bytes > estimate.available_bytes:
        short = estimate.required_bytes - estimate.available_bytes
        found.append(
            Problem(
                f"the run takes {estimate.required_bytes / GIB:.1f} GiB of host RAM, and "
                f"{estimate.available_bytes / GIB:.1f} GiB are available",
                key="hardware.host.ram_gib",
                remedy=f"free {short / GIB:.1f} GiB of RAM, or offload less (a shorter context, a smaller model)",
                cause="host_oom",
            )
        )
    limit = inputs.facts.machine.host.pinned_limit_bytes
    if limit is not None and estimate.pinned_bytes > limit:
        found.append(
            Problem(
                f"{estimate.pinned_bytes / GIB:.1f} GiB must be pinned in host RAM, and {limit / GIB:.1f} GiB can be",
                key="memory.cpu_offload_gib",
                remedy="offload less; under WSL, give it more memory (.wslconfig: memory=)",
                cause="pinned_memory_unavailable",
            )
        )
    return found
