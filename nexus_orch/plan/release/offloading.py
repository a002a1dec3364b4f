"""What each release of vLLM can offload, and how. Each rule names the source file that was read."""

from __future__ import annotations

from nexus_orch.types import Facts
from nexus_orch.types.releases import parse_version


def has_prefetch(facts: Facts) -> bool:
    """The prefetch offloader, and with it the choice of parameters (config/offload.py, from 0.19.1)."""
    return _has(facts, "--offload-backend", "0.19.1")


def moves_towers(facts: Facts) -> bool:
    """UVA also takes a vision tower, ahead of the layers (models/interfaces.py: supports_tower_offload; in 0.29.0, not
    in 0.28.0)."""
    return _is_from(facts, "0.29")


def pinned_copies(facts: Facts) -> int:
    """How many pinned copies of what is prefetched there are at once: from 0.29 on loading makes a second one
    (model_loader/utils.py: device_loading_context, `empty_like(device="cpu", pin_memory=...)`; in 0.29.0, not in
    0.28.0) while the offloader holds the first until all weights are processed (offloader/prefetch.py: `_cpu_storage`,
    post_init; 0.33.0). Read, not measured."""
    return 2 if _is_from(facts, "0.29") else 1


def has_kv_offload(facts: Facts) -> bool:
    """Blocks of the KV cache in host RAM. 0.11 to 0.13 have the option and fail (`num_cpu_blocks must be specified`);
    both model runners have the connector (v1/worker/gpu/model_runner.py, from 0.22.1)."""
    return _is_from(facts, "0.14") and _has(facts, "--kv-offloading-size", "0.14")


def keeps_groups_with_connector(facts: Facts) -> bool:
    """Models with sliding windows or states keep their grouped KV cache beside KV offload (offloading_connector.py:
    SupportsHMA, from 0.22.1); before, every layer would be cached as full attention."""
    return _is_from(facts, "0.22")


def has_disk_tier(facts: Facts) -> bool:
    """v1/kv_offload/tiering: TieringOffloadingSpec and its tier `fs`, from 0.22.1."""
    return _is_from(facts, "0.22") and has_kv_offload(facts)


def shares_kv_region(facts: Facts, *, tiered: bool) -> bool:
    """The KV blocks lie in one file of /dev/shm (v1/kv_offload/cpu/spec.py: SharedOffloadRegion; always with tiers, for
    all in 0.27.1, not in 0.25.1); before, in one pinned tensor for each layer."""
    return tiered or _is_from(facts, "0.27")


def _has(facts: Facts, flag: str, since: str) -> bool:
    if facts.engine.flags:
        return facts.engine.flag(flag) is not None
    return _is_from(facts, since)


def _is_from(facts: Facts, since: str) -> bool:
    return parse_version(facts.engine.version) >= parse_version(since)
