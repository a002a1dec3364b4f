"""The case of a launch: on which machine, with which model and under which conditions its numbers were measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nexus_orch.types import GIB, MIB, MachineFacts, ModelFacts, Plan

PLACE = (
    "serve.tensor_parallel",
    "serve.pipeline_parallel",
    "serve.pipeline_partition",
    "serve.data_parallel",
    "serve.expert_parallel",
    "hardware.gpu.devices",
    "model.dtype",
    "model.quantization",
    "model.trust_remote_code",
    "model.rope_scaling",
    "model.hf_overrides",
    "model.limit_mm_per_prompt",
    "model.language_model_only",
    "model.lora.enabled",
    "model.lora.max_loras",
    "model.lora.max_lora_rank",
    "model.lora.target_modules",
    "model.lora.dtype",
    "model.lora.fully_sharded",
    "serve.speculative.method",
    "serve.speculative.model",
    "serve.speculative.num_speculative_tokens",
    "serve.speculative.draft_tensor_parallel",
    "serve.speculative.quantization",
    "serve.speculative.options",
    "options",
)
"""On these all quantities depend: how the tensors are divided and stored, and how the engine was told to behave."""
KERNELS = ("offload", "memory.kv_cache.dtype", "memory.kv_cache.block_size", "memory.enforce_eager")
BATCH = ("serve.max_num_batched_tokens", "serve.max_num_seqs")
CONTEXT = "model.max_model_len"
CPU_CACHE = (CONTEXT, "memory.kv_cache.size_gib", "memory.kv_cache.max_blocks")

INDIFFERENT: Mapping[str, str] = {
    "model.served_name": "a name",
    "serve.host": "an address",
    "serve.port": "an address",
    "hardware.gpu.device_order": "it follows from hardware.gpu.devices",
    "serve.cpu_threads_bind": "cores; of a CPU engine only the tokens of the KV cache are learned",
    "memory.gpu_memory_utilization": "the budget is planned, and what it leaves is KV cache",
    "memory.offload_backend": "the condition `offload` tells the mechanism",
    "memory.cpu_offload_gib": "weights that leave a card are planned, not learned; the condition `offload` tells how",
    "memory.offload_params": "as memory.cpu_offload_gib",
    "memory.prefetch.group_size": "as memory.cpu_offload_gib",
    "memory.prefetch.num_in_group": "as memory.cpu_offload_gib",
    "memory.prefetch.step": "as memory.cpu_offload_gib",
    "memory.prefetch.params": "as memory.cpu_offload_gib",
    "memory.kv_offload_gib": "host RAM; the page tables that it takes on a card are planned",
    "memory.kv_offload_dir": "a disk",
    "memory.swap_gib": "host RAM",
    "memory.pin_host": "it follows from the machine",
    "memory.kv_cache.calculate_scales": "a few numbers for each layer",
    "model.lora.max_cpu_loras": "host RAM",
    "model.lora.modules": "which adapters there are; the room for them is kept whether they are or not",
    "serve.prefix_caching": "the cache's groups are planned, not learned",
    "serve.speculative.max_model_len": "a limit of what is drafted",
    "serve.speculative.prompt_lookup_max": "how far a processor looks",
    "serve.speculative.prompt_lookup_min": "as serve.speculative.prompt_lookup_max",
}
"""Settings on which no measured quantity depends, each with the reason. A test holds that every setting of the engine
is here or among the conditions above."""

_DEFAULTS = {"serve.tensor_parallel": 1, "serve.pipeline_parallel": 1, "memory.enforce_eager": False}
"""What a plan does that does not mention the setting. Others that it does not mention are the engine's own values,
which release and machine decide."""
_MEMORY_VARIABLES = ("VLLM_", "TORCH", "PYTORCH_", "NCCL_", "CUDA_")
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASS")
_MODEL_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
"""What a shortened configuration in a profile and the model's own config.json both tell."""


def make_machine_key(machine: MachineFacts) -> str:
    """What a machine's measurements hang on: the kinds of its cards, their memory and the driver; without cards the
    processors and the RAM. How many cards a launch used is among its conditions."""
    if not machine.gpus:
        host = machine.host
        return f"{machine.platform}, {host.cpu_count} processors, {host.ram_total_bytes / GIB:.0f} GiB of RAM"
    names = sorted({f"{gpu.name} {gpu.total_bytes // MIB} MiB" for gpu in machine.gpus})
    system = "WSL" if machine.is_wsl else machine.platform
    return f"{' + '.join(names)}, {system}, driver {machine.driver_version or 'unknown'}"


def make_model_key(model: ModelFacts) -> str:
    """Name, architecture, sizes and weight format: where the files lie does not matter."""
    config = model.config
    text = config.get("text_config")
    inner: Mapping[str, Any] = text if isinstance(text, Mapping) else config
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    sizes = [config.get("architectures"), method, *(inner.get(name, config.get(name)) for name in _MODEL_SIZES)]
    return f"{model.name} {_digest(sizes)}"


def make_conditions(plan: Plan) -> dict[str, Any]:
    """What the quantities of a launch depend on, by the settings' keys, and two that are put together here:

    `offload` (none, uva, prefetch or another mechanism) and `options` (a digest of the user's own engine variables,
    without those that sound like secrets, and arguments).
    """
    settings = plan.settings
    keys = [key for key in (*PLACE, *KERNELS, *BATCH, *CPU_CACHE) if "." in key]
    found = {key: settings.get(key, _DEFAULTS.get(key)) for key in keys}
    found[CONTEXT] = plan.max_model_len
    found["offload"] = _mechanism(plan)
    found["options"] = _digest([_memory_variables(plan.spec.engine.env), plan.spec.serve.extra_args])
    lists = {key: list(value) for key, value in found.items() if isinstance(value, tuple)}  # as JSON gives them back
    return {key: value for key, value in {**found, **lists}.items() if value is not None}


def _mechanism(plan: Plan) -> str:
    """How the weights in host RAM come to the cards; "none" where all of them stay there."""
    if not any(card.offloaded_bytes for card in plan.per_gpu):
        return "none"
    return f"strategy {plan.loader}" if plan.proof is None else plan.proof.mechanism


def _memory_variables(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables on which an engine's memory may depend."""
    return sorted(
        (name, value)
        for name, value in env.items()
        if name.startswith(_MEMORY_VARIABLES) and not any(word in name for word in _SECRET_WORDS)
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
