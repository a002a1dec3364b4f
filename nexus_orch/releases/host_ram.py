"""Host RAM: the weights and the KV blocks that wait there."""

from __future__ import annotations

from nexus_orch.releases.fact import Fact

# Weights

offloads_weights = Fact(
    "weights can be kept in host RAM",
    since="0.5.3",
    source="engine/arg_utils.py: --cpu-offload-gb, not in 0.5.2",
)
prefetches = Fact(
    "layers can be copied ahead of their use, and the parameters that leave the card can be chosen",
    since="0.17.0",
    source="config/offload.py and model_executor/offloader, not in 0.16.0",
)
tells_what_it_offloads = Fact(
    'the log says "Total CPU offloaded parameters" when anything was offloaded, and nothing else does',
    since="0.17.0",
    source="model_executor/offloader/uva.py and prefetch.py",
)
weights_need_pinning = Fact(
    "offloading ends the start where memory cannot be pinned, as under WSL",
    since="0.8.0",
    before="0.17.0",
    source='model_executor/models/utils.py: "V1 CPU offloading requires uva (pin memory) support"',
)
pins_under_wsl = Fact(
    "VLLM_WSL2_ENABLE_PIN_MEMORY=1 allows pinned memory under WSL",
    since="0.24.0",
    source="envs.py; platforms/cuda.py",
)
_REINITIALIZE = (
    'v1/worker/gpu_model_runner.py: "Cannot re-initialize the input batch when CPU weight offloading is enabled"'
)
refuses_states = Fact(
    "models with Mamba or linear-attention layers are refused when weights are offloaded",
    since="0.9.1",
    before="0.17.0",
    source=_REINITIALIZE,
)
refuses_states_by_uva = Fact(
    "models with Mamba or linear-attention layers are refused when UVA offloads their weights",
    since="0.9.1",
    before="0.20.0",
    source=f"{_REINITIALIZE}; from 0.17.0 on it asks for the budget of UVA alone",
)
keeps_repacked_weights = Fact(
    "weights that are repacked after loading, as those of GPTQ and AWQ, stay in host RAM",
    since="0.17.0",
    source="model_executor/model_loader/utils.py: device_loading_context, _vllm_is_uva_offloaded",
)
moves_towers = Fact(
    "UVA also takes a vision tower, ahead of the layers",
    since="0.29.0",
    source="model_executor/models/interfaces.py: supports_tower_offload",
)
pins_twice = Fact(
    "loading makes a second pinned copy of what is prefetched, and the offloader holds the first until all weights are "
    "processed",
    since="0.29.0",
    source='model_executor/model_loader/utils.py: device_loading_context, empty_like(device="cpu", pin_memory=...); '
    "offloader/prefetch.py: _cpu_storage, post_init. Read, not measured",
)

# KV blocks

offloads_kv_blocks = Fact(
    "blocks of the KV cache can wait in host RAM",
    since="0.14.0",
    source="v1/kv_offload/cpu.py: cpu_bytes_to_use; both model runners have the connector",
)
kv_offload_is_broken = Fact(
    "the option for KV offload is there and ends the start with `num_cpu_blocks must be specified`",
    since="0.11.1",
    before="0.14.0",
    source="engine/arg_utils.py: --kv-offloading-size; v1/kv_offload/cpu.py",
)
keeps_groups_with_connector = Fact(
    "models with sliding windows or states keep their grouped KV cache beside KV offload; before, every layer would be "
    "cached as full attention",
    since="0.21.0",
    source="distributed/kv_transfer/kv_connector/v1/offloading_connector.py: SupportsHMA",
)
has_disk_tier = Fact(
    "KV offload can have a tier on a disk",
    since="0.22.0",
    source="v1/kv_offload/tiering: TieringOffloadingSpec and its tier `fs`",
)
shares_kv_region = Fact(
    "the KV blocks in host RAM lie in one file of /dev/shm; before, in one pinned tensor for each layer",
    since="0.27.0",
    source="v1/kv_offload/cpu/spec.py: SharedOffloadRegion for all, and not for tiers only",
)
