"""The loader vram_only: all weights on the cards."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch.contracts import Loader, Need, Placement
from nexus_orch.hookspecs import hookimpl
from nexus_orch.types import Facts, RunSpec


class VramOnly:
    """Nothing leaves the cards. What does not fit is for the planner to say."""

    name = "vram_only"

    def supports(self, spec: RunSpec, facts: Facts) -> str | None:
        memory = spec.memory
        if memory.cpu_offload_gib:
            return f"memory.cpu_offload_gib={memory.cpu_offload_gib:g} asks for weights in host RAM"
        if memory.kv_offload_dir is not None and memory.kv_offload_gib is None:
            return "memory.kv_offload_dir asks for KV blocks in host RAM on their way to the disk"
        return None

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        nothing = (0,) * len(needs)
        return [Placement(nothing, nothing, host_bytes=0, pinned_bytes=0)]


@hookimpl
def nexus_loaders() -> Sequence[Loader]:
    return [VramOnly()]
