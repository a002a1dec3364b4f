"""The settings that every run has, whatever it runs on: where the model is and how it is served."""

from __future__ import annotations

from pathlib import PurePosixPath

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.types import Choice, ServeSpec

DEFAULT_PORT = 8000

_PASSED_ON = (
    "memory.kv_offload_gib",
    "memory.kv_offload_dir",
    "memory.swap_gib",
    "memory.kv_cache.dtype",
    "memory.kv_cache.block_size",
    "memory.kv_cache.max_blocks",
    "memory.kv_cache.calculate_scales",
)
"""Settings that the planner takes into account when they are pinned and otherwise leaves to the engine."""
_ENGINES = ("serve.data_parallel", "serve.expert_parallel", "serve.prefix_caching")
_SPECULATIVE = tuple(
    f"serve.speculative.{name}"
    for name in (
        *("method", "model", "num_speculative_tokens", "draft_tensor_parallel", "quantization", "max_model_len"),
        *("prompt_lookup_max", "prompt_lookup_min", "options"),
    )
)

_MODEL_CONFIG = (
    *("model.rope_scaling", "model.hf_overrides"),
    *("model.limit_mm_per_prompt", "model.language_model_only"),
)
_LORA = tuple(
    f"model.lora.{name}"
    for name in (
        *("enabled", "max_loras", "max_lora_rank", "max_cpu_loras", "modules", "target_modules", "dtype"),
        "fully_sharded",
    )
)


def model_choices(inputs: Inputs) -> tuple[Choice, ...]:
    """The choices of the model, its data type and the name by which clients call it."""
    fixed = inputs.fixed
    found = [
        _model_path(inputs),
        inputs.dtype,
        fixed.choice("model.served_name", _served_name(inputs), "what clients call the model"),
    ]
    if fixed.has("model.quantization"):
        found.append(fixed.choice("model.quantization", None, ""))
    if inputs.spec.model.trust_remote_code:
        found.append(fixed.choice("model.trust_remote_code", True, ""))
    return tuple(found)


def _model_path(inputs: Inputs) -> Choice:
    """The choice of the model's folder or hub id; of a GGUF model its file, which is what vLLM takes."""
    model = inputs.facts.model
    checkpoint = model.checkpoint
    if checkpoint is not None and checkpoint.format == "gguf" and model.path in checkpoint.files:
        return Choice("model.path", model.path, "derived", "vLLM takes a GGUF model by its file")
    reason = "from the profile" if model.config_source == "profile" else "the folder that holds its config.json"
    return inputs.fixed.choice("model.path", model.path, reason)


def passed_choices(inputs: Inputs) -> tuple[Choice, ...]:
    """Pinned settings that are handed on as they are."""
    keys = (*_MODEL_CONFIG, *_LORA, *_PASSED_ON, *_ENGINES, *_SPECULATIVE)
    return tuple(inputs.fixed.choice(key, None, "") for key in keys if inputs.fixed.has(key))


def serve_choices(inputs: Inputs) -> tuple[Choice, ...]:
    """The choices of address, key and extra arguments."""
    fixed, serve = inputs.fixed, inputs.spec.serve
    found = [
        _host(inputs),
        fixed.choice("serve.port", DEFAULT_PORT, "the usual port, or the next free one when it is taken"),
    ]
    for key in ("serve.front_door", "serve.continue_streams"):
        if inputs.spec.get(key):
            found.append(fixed.choice(key, None, ""))
    if serve.api_key_env is not None:
        found.append(fixed.choice("serve.api_key_env", None, ""))
    if serve.cpu_threads_bind is not None:
        found.append(fixed.choice("serve.cpu_threads_bind", None, ""))
    if serve.extra_args:
        found.append(fixed.choice("serve.extra_args", (), ""))
    return (*found, *_pinning_choices(inputs), *_plugin_choices(inputs))


def _pinning_choices(inputs: Inputs) -> tuple[Choice, ...]:
    """The choice to pin host RAM under WSL, where vLLM does so only when it is told to."""
    if inputs.is_cpu or not inputs.facts.machine.is_wsl:
        return ()
    reason = "WSL gives pinned host RAM only to who asks; offloading and newer engines need it"
    return (Choice("memory.pin_host", True, "derived", reason),)


def _plugin_choices(inputs: Inputs) -> tuple[Choice, ...]:
    """The choices of settings that plugins add: an adapter understands or refuses them."""
    keys = [f"plugin.{name}" for name in inputs.spec.plugin]
    return tuple(inputs.fixed.choice(key, None, "") for key in keys)


def _host(inputs: Inputs) -> Choice:
    """The choice of the address, which counts as pinned only where it was written down: the spec itself has a
    default."""
    choice = inputs.fixed.choice("serve.host", None, "")
    if inputs.spec.origin("serve.host") is not None or choice.value != ServeSpec.host:
        return choice
    return Choice("serve.host", choice.value, "derived", "answers on this machine only")


def _served_name(inputs: Inputs) -> str:
    """The profile's short name, else the last part of the path."""
    name = inputs.spec.model.name or inputs.facts.model.name
    return name or PurePosixPath(str(inputs.facts.model.path or "model")).name
