"""The loader vram_only: all weights on the cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nexus_orch.contracts import Loader, Need, Placement, Refusal, Rule
from nexus_orch.hookspecs import hookimpl
from nexus_orch.types import Facts, MemorySpec, RunSpec

_KEEPS_CACHE = "the strategy keeps the KV cache in GPU memory"
_OFFLOADS_NOTHING = "the strategy offloads nothing"


def _against(key: str, broken: Callable[[MemorySpec], object], message: str) -> Rule:
    """A setting of the memory section that asks for more than GPU memory."""
    remedy = f"choose memory=hybrid, or {key}=auto"
    return Rule((key, "memory.strategy"), lambda spec: bool(broken(spec.memory)), message, remedy)


class VramOnly(Loader):
    """Nothing leaves the cards. What does not fit is for the planner to say."""

    name = "vram_only"
    order = 0
    profile = "vram_only"
    offloads = False
    rules = (
        _against(
            "memory.cpu_offload_gib",
            lambda memory: memory.cpu_offload_gib,
            "the strategy keeps all weights in GPU memory",
        ),
        _against("memory.kv_offload_gib", lambda memory: memory.kv_offload_gib, _KEEPS_CACHE),
        _against("memory.kv_offload_dir", lambda memory: memory.kv_offload_dir is not None, _KEEPS_CACHE),
        _against("memory.offload_params", lambda memory: memory.offload_params is not None, _OFFLOADS_NOTHING),
        _against("memory.offload_backend", lambda memory: memory.offload_backend is not None, _OFFLOADS_NOTHING),
    )

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        memory = spec.memory
        if memory.cpu_offload_gib:
            return Refusal(f"memory.cpu_offload_gib={memory.cpu_offload_gib:g} asks for weights in host RAM")
        if memory.kv_offload_dir is not None and memory.kv_offload_gib is None:
            return Refusal("memory.kv_offload_dir asks for KV blocks in host RAM on their way to the disk")
        return None

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        nothing = (0,) * len(needs)
        return [Placement(nothing, nothing, host_bytes=0, pinned_bytes=0)]


@hookimpl
def nexus_loaders() -> Sequence[Loader]:
    return [VramOnly()]
