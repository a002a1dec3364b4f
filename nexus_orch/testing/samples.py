"""A value of each setting that asks an engine for something: what an adapter must say or refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OFFLOAD = {"memory.offload_backend": "uva", "memory.cpu_offload_gib": 4.0}
_PREFETCH = {
    "memory.offload_backend": "prefetch",
    "memory.prefetch.group_size": 4,
    "memory.prefetch.num_in_group": 2,
    "memory.prefetch.step": 1,
}
_STAGES = {"serve.pipeline_parallel": 2, "serve.cpu_threads_bind": "0-3|4-7"}
_CARDS = {"hardware.gpu.devices": (2, 0)}
_KV_OFFLOAD = {"memory.kv_offload_gib": 8}
_DRAFT = {
    "serve.speculative.method": "eagle",
    "serve.speculative.model": "/models/draft",
    "serve.speculative.num_speculative_tokens": 3,
}
_NGRAM = {"serve.speculative.method": "ngram", "serve.speculative.num_speculative_tokens": 3}
_LORA = {"model.lora.enabled": True, "model.lora.max_loras": 2, "model.lora.max_lora_rank": 64}

SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "model.dtype": {"model.dtype": "float16"},
    "model.quantization": {"model.quantization": "awq"},
    "model.max_model_len": {"model.max_model_len": 4096},
    "model.trust_remote_code": {"model.trust_remote_code": True},
    "model.served_name": {"model.served_name": "mine"},
    "model.rope_scaling": {"model.rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    "model.hf_overrides": {"model.hf_overrides": {"rope_theta": 1000000}},
    "model.limit_mm_per_prompt": {"model.limit_mm_per_prompt": {"image": 2}},
    "model.language_model_only": {"model.language_model_only": True},
    "model.lora.enabled": _LORA,
    "model.lora.max_loras": _LORA,
    "model.lora.max_lora_rank": _LORA,
    "model.lora.max_cpu_loras": {**_LORA, "model.lora.max_cpu_loras": 8},
    "model.lora.modules": {**_LORA, "model.lora.modules": ("sql=/adapters/sql",)},
    "model.lora.target_modules": {**_LORA, "model.lora.target_modules": ("q_proj", "v_proj")},
    "model.lora.dtype": {**_LORA, "model.lora.dtype": "bfloat16"},
    "model.lora.fully_sharded": {**_LORA, "model.lora.fully_sharded": True},
    "hardware.gpu.devices": _CARDS,
    "hardware.gpu.device_order": {**_CARDS, "hardware.gpu.device_order": "PCI_BUS_ID"},
    "serve.tensor_parallel": {"serve.tensor_parallel": 2, "serve.cpu_threads_bind": "0-3|4-7"},
    "serve.pipeline_parallel": _STAGES,
    "serve.pipeline_partition": {**_STAGES, "serve.pipeline_partition": (12, 16)},
    "serve.data_parallel": {"serve.data_parallel": 2, "serve.tensor_parallel": 1},
    "serve.expert_parallel": {"serve.expert_parallel": True},
    "serve.prefix_caching": {"serve.prefix_caching": True},
    "serve.max_num_seqs": {"serve.max_num_seqs": 16},
    "serve.max_num_batched_tokens": {"serve.max_num_batched_tokens": 2048},
    "serve.cpu_threads_bind": {"serve.cpu_threads_bind": "0-3"},
    "serve.speculative.method": _NGRAM,
    "serve.speculative.model": _DRAFT,
    "serve.speculative.num_speculative_tokens": _NGRAM,
    "serve.speculative.draft_tensor_parallel": {**_DRAFT, "serve.speculative.draft_tensor_parallel": 1},
    "serve.speculative.quantization": {**_DRAFT, "serve.speculative.quantization": "fp8"},
    "serve.speculative.max_model_len": {**_DRAFT, "serve.speculative.max_model_len": 2048},
    "serve.speculative.prompt_lookup_max": {**_NGRAM, "serve.speculative.prompt_lookup_max": 4},
    "serve.speculative.prompt_lookup_min": {**_NGRAM, "serve.speculative.prompt_lookup_min": 2},
    "serve.speculative.options": {**_NGRAM, "serve.speculative.options": {"enforce_eager": True}},
    "serve.host": {"serve.host": "127.0.0.1"},
    "serve.port": {"serve.port": 8123},
    "memory.gpu_memory_utilization": {"memory.gpu_memory_utilization": 0.8},
    "memory.cpu_offload_gib": _OFFLOAD,
    "memory.offload_backend": _PREFETCH,
    "memory.offload_params": {**_OFFLOAD, "memory.offload_params": ("experts",)},
    "memory.prefetch.group_size": _PREFETCH,
    "memory.prefetch.num_in_group": _PREFETCH,
    "memory.prefetch.step": _PREFETCH,
    "memory.prefetch.params": {**_PREFETCH, "memory.prefetch.params": ("experts",)},
    "memory.kv_offload_gib": _KV_OFFLOAD,
    "memory.kv_offload_dir": {**_KV_OFFLOAD, "memory.kv_offload_dir": "/var/cache/kv"},
    "memory.swap_gib": {"memory.swap_gib": 4},
    "memory.pin_host": {"memory.pin_host": True},
    "memory.enforce_eager": {"memory.enforce_eager": True},
    "memory.kv_cache.dtype": {"memory.kv_cache.dtype": "fp8"},
    "memory.kv_cache.block_size": {"memory.kv_cache.block_size": 32},
    "memory.kv_cache.max_blocks": {"memory.kv_cache.max_blocks": 1000},
    "memory.kv_cache.size_gib": {"memory.kv_cache.size_gib": 2.0},
    "memory.kv_cache.calculate_scales": {"memory.kv_cache.calculate_scales": True},
}
"""Each setting with those that it needs beside it."""

MAY_BE_SILENT = frozenset({"memory.pin_host"})
"""Settings that only the planner makes, and that need no word where the engine does the same without: a release that
never pins host RAM under WSL cannot be asked to."""
