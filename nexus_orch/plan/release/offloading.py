"""What an engine can offload: its own options decide where they are known, else what is known of its release."""

from __future__ import annotations

from nexus_orch.releases import host_ram
from nexus_orch.releases.fact import Fact
from nexus_orch.releases.known import is_known
from nexus_orch.types import EngineFacts, Facts


def has_prefetch(facts: Facts) -> bool:
    """The prefetch offloader, and with it the choice of parameters."""
    return has_option(facts.engine, "--offload-backend", host_ram.prefetches)


def moves_towers(facts: Facts) -> bool:
    """UVA also takes a vision tower, ahead of the layers."""
    return host_ram.moves_towers(facts.engine.version)


def pinned_copies(facts: Facts) -> int:
    """How many pinned copies of what is prefetched there are at once, while the weights are loaded."""
    return 2 if host_ram.pins_twice(facts.engine.version) else 1


def has_kv_offload(facts: Facts) -> bool:
    """Blocks of the KV cache in host RAM, by an option that works."""
    works = host_ram.offloads_kv_blocks(facts.engine.version)
    return works and has_option(facts.engine, "--kv-offloading-size", host_ram.offloads_kv_blocks)


def keeps_groups_with_connector(facts: Facts) -> bool:
    """Models with sliding windows or states keep their grouped KV cache beside KV offload."""
    return host_ram.keeps_groups_with_connector(facts.engine.version)


def has_disk_tier(facts: Facts) -> bool:
    """A tier on a disk below the KV blocks in host RAM."""
    return host_ram.has_disk_tier(facts.engine.version) and has_kv_offload(facts)


def shares_kv_region(facts: Facts, *, tiered: bool) -> bool:
    """The KV blocks lie in one file of /dev/shm; with tiers they always do."""
    return tiered or host_ram.shares_kv_region(facts.engine.version)


def has_option(engine: EngineFacts, flag: str, fact: Fact) -> bool:
    """Whether an engine has an option that comes with `fact`. Its options decide where they were read; those of a
    release between two that were read are assumed."""
    if engine.flags and (engine.source == "installed" or is_known(engine.version)):
        return engine.option(flag) is not None
    return fact(engine.version)
