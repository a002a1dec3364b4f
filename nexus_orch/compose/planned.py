"""Settings that plans show and that only the planner makes: what to set instead of each."""

from __future__ import annotations

from collections.abc import Mapping

_GROUPS = (
    "memory.offload_backend=prefetch asks for groups of layers, memory.cpu_offload_gib=GIB for how much of them leaves "
    "each card: the groups follow from both"
)

PLANNED_ONLY: Mapping[str, str] = {
    "memory.prefetch": _GROUPS,
    "memory.prefetch.group_size": _GROUPS,
    "memory.prefetch.num_in_group": _GROUPS,
    "memory.prefetch.step": _GROUPS,
    "memory.prefetch.params": "memory.offload_params=[SEGMENT] names the parameters that may leave the cards",
    "memory.load_strategy": "serve.extra_args=['--safetensors-load-strategy',STRATEGY] says it to vLLM",
    "memory.pin_host": "it follows from the machine: WSL pins host RAM only when it is asked to",
    "hardware.gpu.device_order": "hardware.gpu.devices=[INDEX] names the cards; their order is that of nvidia-smi",
}
