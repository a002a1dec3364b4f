"""Host RAM: what a run takes of it, part by part, what there is, and what would do where that is too little."""

from __future__ import annotations

from collections.abc import Iterator

from nexus_orch.contracts import Placement
from nexus_orch.errors import Problem
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.offload.kv_tier import kv_pinned_bytes
from nexus_orch.plan.release.offloading import shares_kv_region
from nexus_orch.types import GIB, MIB, HostEstimate

SERVER_BYTES = 1400 * MIB
WORKER_BYTES = 1100 * MIB
"""Resident memory of the server's processes, and of each rank: 2.4 GiB in all for one rank, of which 1.7 to 2.2 were
seen beside the pinned tensors (vLLM 0.25.1 on an H100, host RAM before and after the start)."""
RULE_RAM_FACTOR, RULE_SWAP_FACTOR = 2.0, 0.2
"""The rule of thumb of the program that this one follows: RAM of twice the model, and swap of a fifth of it."""


def estimate_host(inputs: Inputs, placement: Placement, ranks: int, model_bytes: int = 0) -> HostEstimate:
    """RAM in bytes for the processes (with the copies of LoRA adapters of each rank), the offloaded weights (pinned,
    and rounded up as torch does it), copies while loading, and KV blocks.

    `model_bytes` is the size of all weights, for the rule of thumb.
    """
    host = inputs.facts.machine.host
    asked = placement.kv_offload_bytes or int((inputs.spec.memory.kv_offload_gib or 0) * GIB)
    kv_offload = kv_pinned_bytes(asked, inputs.facts, tiered=inputs.spec.memory.kv_offload_dir is not None)
    weights = min(sum(placement.offloaded_bytes), placement.host_bytes)
    adapters = 0 if inputs.lora is None else inputs.lora.host_bytes(inputs.architecture)
    processes = SERVER_BYTES + (WORKER_BYTES + adapters) * ranks
    return HostEstimate(
        required_bytes=processes + placement.host_bytes + placement.loading_bytes + kv_offload,
        available_bytes=max(0, host.ram_available_bytes - host.reserved_bytes),
        pinned_bytes=placement.pinned_bytes + kv_offload,
        weights_bytes=weights,
        rounding_bytes=placement.host_bytes - weights - placement.copies_bytes,
        copies_bytes=placement.copies_bytes,
        loading_bytes=placement.loading_bytes,
        process_bytes=processes,
        kv_offload_bytes=kv_offload,
        rule_of_thumb_bytes=int(model_bytes * RULE_RAM_FACTOR),
        rule_of_thumb_swap_bytes=int(model_bytes * RULE_SWAP_FACTOR),
    )


def _shares_region(inputs: Inputs) -> bool:
    return shares_kv_region(inputs.facts, tiered=inputs.spec.memory.kv_offload_dir is not None)


def judge_host(inputs: Inputs, estimate: HostEstimate, remedy: str | None = None) -> list[Problem]:
    """Problems of too little RAM, too little that can be pinned, or too little shared memory for KV blocks.

    `remedy` is what was found to do; without it the missing amount is told.
    """
    return [*_judge_ram(inputs, estimate, remedy), *_judge_pinned(inputs, estimate), *_judge_shared(inputs, estimate)]


def lacks_ram(inputs: Inputs, estimate: HostEstimate) -> bool:
    """Whether the host has too little RAM for this run, in any way."""
    return bool(judge_host(inputs, estimate))


def _judge_ram(inputs: Inputs, estimate: HostEstimate, remedy: str | None) -> Iterator[Problem]:
    short = estimate.required_bytes - estimate.available_bytes
    if short <= 0:
        return
    host = inputs.facts.machine.host
    group = host.cgroup_limit_bytes
    limit = "" if group is None else f" (the control group allows {group / GIB:.1f} GiB)"
    swap = "; swap does not help: pinned memory cannot be swapped out" if host.swap_free_bytes >= short else ""
    key, total, origin = name_ram(inputs)
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in estimate.parts)
    yield Problem(
        f"the run takes {estimate.required_bytes / GIB:.1f} GiB of host RAM ({parts}), and "
        f"{estimate.available_bytes / GIB:.1f} GiB are available{limit}{swap}",
        key=key,
        value=total,
        origin=origin,
        remedy=remedy or f"{short / GIB:.1f} GiB more RAM",
        cause="host_oom",
    )


def name_ram(inputs: Inputs) -> tuple[str, float, str | None]:
    """The machine's RAM as a setting: its key, how many GiB there are, and who says so."""
    key, host = "hardware.host.ram_gib", inputs.facts.machine.host
    told = inputs.spec.get(key)
    origin = inputs.fixed.problem_origin(key) if told is not None and host.source == "profile" else "measured"
    return key, round(host.ram_total_bytes / GIB, 1), origin


def _judge_pinned(inputs: Inputs, estimate: HostEstimate) -> Iterator[Problem]:
    limit = inputs.facts.machine.host.pinned_limit_bytes
    if limit is None or estimate.pinned_bytes <= limit:
        return
    more = (estimate.pinned_bytes - limit) * 2 / GIB
    yield Problem(
        f"{estimate.pinned_bytes / GIB:.1f} GiB must be pinned in host RAM, and {limit / GIB:.1f} GiB can be",
        key="memory.cpu_offload_gib",
        remedy=f"offload less, or give WSL {more:.1f} GiB more, of which half can be pinned (.wslconfig: memory=)",
        cause="pinned_memory_unavailable",
    )


def _judge_shared(inputs: Inputs, estimate: HostEstimate) -> Iterator[Problem]:
    """The problem of KV blocks in a /dev/shm that is too small for them; containers get 64 MiB unless told
    otherwise."""
    free = inputs.facts.machine.host.shared_memory_bytes
    if free is None or estimate.kv_offload_bytes <= free or not _shares_region(inputs):
        return
    needed = -(-estimate.kv_offload_bytes // GIB)
    yield Problem(
        f"{estimate.kv_offload_bytes / GIB:.1f} GiB of KV blocks lie in shared memory, and /dev/shm has "
        f"{free / GIB:.2f} GiB free",
        key="memory.kv_offload_gib",
        remedy=f"start the container with --shm-size={needed + 1}g, or memory.kv_offload_gib={int(free / GIB)}",
        cause="shared_memory",
    )


def host_notes(inputs: Inputs, placement: Placement, estimate: HostEstimate) -> tuple[str, ...]:
    """Notes on the RAM of a run that it has enough of."""
    found = list(_node_notes(inputs, placement))
    checkpoint = inputs.facts.model.checkpoint
    left = estimate.available_bytes - estimate.required_bytes
    if checkpoint is not None and estimate.pinned_bytes and 0 <= left < checkpoint.total_bytes:
        found.append(
            f"{left / GIB:.1f} GiB of RAM are left for the page cache, and the checkpoint has "
            f"{checkpoint.total_bytes / GIB:.1f} GiB: it is read from the disk again at every start"
        )
    return tuple(found)


def _node_notes(inputs: Inputs, placement: Placement) -> Iterator[str]:
    """Notes on cards whose own NUMA node is too small for what is pinned for them."""
    machine, total = inputs.facts.machine, sum(placement.offloaded_bytes)
    needed: dict[int, float] = {}
    for gpu, offloaded in zip(machine.gpus, placement.offloaded_bytes, strict=False):
        if gpu.numa_node is not None and offloaded:
            share = placement.pinned_bytes * offloaded / total
            needed[gpu.numa_node] = needed.get(gpu.numa_node, 0.0) + share
    for node, size in needed.items():
        there = machine.host.node_available_bytes[node : node + 1]
        if there and size > there[0]:
            yield (
                f"the cards on NUMA node {node} need {size / GIB:.1f} GiB of pinned memory, and that node has "
                f"{there[0] / GIB:.1f} GiB: the rest lies on another node, which the cards reach more slowly"
            )
