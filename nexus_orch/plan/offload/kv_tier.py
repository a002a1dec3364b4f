"""KV offload: blocks that leave the cards wait in host RAM, or below it on a disk, instead of being computed again.

It gives no card more cache: one request still has to fit on the cards, and as many run at once as fit there. What it
saves is the second prefill of requests that had to make room, and of prompts that come again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nexus_orch.contracts import Need
from nexus_orch.plan.model.architecture import AttentionCache
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.plan.offload.parameters import missing_bytes
from nexus_orch.plan.release.offloading import (
    has_disk_tier,
    has_kv_offload,
    keeps_groups_with_connector,
    shares_kv_region,
)
from nexus_orch.plan.release.pinning import HOST_PAGE_BYTES, PAGE_ENTRY_BYTES
from nexus_orch.types import GIB, Choice, Facts, RunSpec

RAM_FACTOR = 1.9
"""Host memory allocated for each byte of --kv-offloading-size where each layer is a pinned tensor of its own, rounded
up to a power of two (vLLM 0.25.1, H100)."""
LARGEST_SHARE = 0.5
"""Of the RAM that is available, a derived KV offload takes at most this: weights and processes need the rest."""


@dataclass(frozen=True)
class KvTier:
    """KV blocks outside the cards: `bytes` as the engine is asked for, over all cards."""

    bytes: int
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]


NO_TIER = KvTier(0, (), ())


def choose_kv_tier(needs: Sequence[Need], spec: RunSpec, facts: Facts) -> KvTier:
    """What the user pinned; else RAM for the requests that are wanted at once and do not fit on the cards, when their
    weights do; else nothing. A disk tier stands only below one in RAM, which it makes necessary."""
    memory = spec.memory
    if memory.kv_offload_gib is not None:
        return KvTier(
            int(memory.kv_offload_gib * GIB), (), _notes(memory.kv_offload_dir) if memory.kv_offload_gib else ()
        )
    lacking = sum(missing_bytes(need, need.kv_cache_bytes) for need in needs)
    wants_disk = memory.kv_offload_dir is not None and has_disk_tier(facts)
    if not wants_disk and (not lacking or not can_offload_kv(facts)):
        return NO_TIER
    host = facts.machine.host
    room = (host.ram_available_bytes - host.reserved_bytes) * LARGEST_SHARE / RAM_FACTOR
    least = max(need.context_cache_bytes for need in needs) if wants_disk else 0
    gib = min(math.ceil(max(lacking, least) / GIB), math.floor(room / GIB))
    gib = max(gib, 1) if wants_disk else gib  # without RAM the disk cannot be reached: the host's judge tells the lack
    if gib < 1:
        return NO_TIER
    if lacking:
        reason = (
            f"{spec.workload.concurrency} requests at once need {lacking / GIB:.1f} GiB more KV cache than the cards "
            "have: blocks that make room wait in host RAM and are copied back instead of computed again"
        )
        if gib * GIB < lacking:
            reason += (
                f"; no more than {gib} GiB, because they may take half of the available RAM, and pinning them up to "
                f"{RAM_FACTOR:g} times their size"
            )
    else:
        reason = "the tier in RAM through which blocks go to the disk: room for one request"
    choice = Choice("memory.kv_offload_gib", gib, "derived", reason)
    return KvTier(gib * GIB, (choice,), _notes(memory.kv_offload_dir))


def kv_pinned_bytes(asked: int, facts: Facts, *, tiered: bool) -> int:
    """Host RAM for `asked` bytes of KV blocks; `tiered` when a folder on a disk lies below them."""
    return asked if shares_kv_region(facts, tiered=tiered) else int(asked * RAM_FACTOR)


def kv_page_table_bytes(asked: int, facts: Facts, ranks: int, *, tiered: bool) -> int:
    """Device memory of each GPU that maps them. It is taken when the KV cache has its memory already, so on top of the
    engine's budget (distributed/kv_transfer: register_kv_caches). Each rank registers a shared region as a whole
    (v1/kv_offload/cpu/gpu_worker.py of 0.32.0: pin_mmap_region), else its own tensors."""
    pinned = kv_pinned_bytes(asked, facts, tiered=tiered)
    mapped = pinned if shares_kv_region(facts, tiered=tiered) else pinned // ranks
    return mapped // HOST_PAGE_BYTES * PAGE_ENTRY_BYTES


def can_offload_kv(facts: Facts) -> bool:
    """Whether this release keeps the cards' cache as it is when blocks may leave it."""
    if facts.engine.device == "cpu" or not has_kv_offload(facts):
        return False
    layers = choose_architecture(facts.model).distinct_layers
    plain = all(isinstance(layer.cache, AttentionCache) and layer.cache.window is None for layer, _ in layers)
    return plain or keeps_groups_with_connector(facts)


def _notes(directory: str | None) -> tuple[str, ...]:
    where = "host RAM" if directory is None else f"host RAM and {directory}"
    return (
        f"KV blocks that leave the cards are kept in {where}: preempted requests and prompts that come again are "
        "copied back instead of computed again; the longest context and the requests that run at once stay those of "
        "the cards",
    )
