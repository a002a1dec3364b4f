"""From the metadata of a GGUF file to the keys of a config.json, for architectures that the planner knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.model.gguf_header import GgufArray, GgufHeader
from nexus_orch.suggest import suggest

MODEL_TYPES: Mapping[str, str] = {
    "llama": "llama",  # Mistral's models too: the format does not tell them apart
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
}
"""Model types of config.json by `general.architecture` (gguf-py's MODEL_ARCH_NAMES)."""

_KEYS: Mapping[str, str] = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "head_dim": "attention.key_length",
    "sliding_window": "attention.sliding_window",
    "rotary_dim": "rope.dimension_count",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "vocab_size": "vocab_size",
}
"""Keys of config.json by those of the metadata, which begin with the architecture."""
_TOKENS = "tokenizer.ggml.tokens"
_GEMMA3_PATTERN = 6
"""Every sixth layer of Gemma 3 sees the whole context; the format does not say so."""


def make_gguf_config(header: GgufHeader, where: str) -> dict[str, Any]:
    """The content of a config.json. What is missing is left out: the planner says what it needs.

    Raises ConfigError for an architecture that is not known; `where` names the file.
    """
    architecture = header.metadata.get("general.architecture")
    model_type = MODEL_TYPES.get(str(architecture))
    if model_type is None:
        raise ConfigError(_unknown(architecture, where))
    if architecture == "llama" and header.metadata.get("llama.expert_count"):
        model_type = "mixtral"
    config: dict[str, Any] = {"model_type": model_type}
    for key, name in _KEYS.items():
        value = _scalar(header.metadata.get(f"{architecture}.{name}"))
        if value is not None:
            config[key] = value
    config.setdefault("vocab_size", _vocabulary(header))
    names = {tensor.name for tensor in header.tensors}
    config["tie_word_embeddings"] = "output.weight" not in names
    if model_type in ("llama", "qwen3", "qwen3_moe"):
        config["attention_bias"] = "blk.0.attn_q.bias" in names
    if model_type == "mixtral":
        config["num_local_experts"] = config.pop("num_experts")
    if model_type == "gemma3_text":
        config["sliding_window_pattern"] = _GEMMA3_PATTERN
    config |= _rope(header.metadata, str(architecture))
    return {key: value for key, value in config.items() if value is not None}


def _scalar(value: Any) -> Any:
    """One number for all layers; lists whose layers differ stay as they are, for the planner to refuse."""
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    return list(value) if isinstance(value, tuple) else value


def _vocabulary(header: GgufHeader) -> int | None:
    """The rows of the embedding, else the tokens of the tokenizer."""
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            return tensor.shape[0]
    tokens = header.metadata.get(_TOKENS)
    return tokens.length if isinstance(tokens, GgufArray) else None


def _rope(metadata: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """A context that rope scaling extends: `context_length` tells the extended one already."""
    kind, factor = (
        metadata.get(f"{architecture}.rope.scaling.type"),
        metadata.get(f"{architecture}.rope.scaling.factor"),
    )
    original = metadata.get(f"{architecture}.rope.scaling.original_context_length")
    if kind != "yarn" or not isinstance(factor, float) or not isinstance(original, int):
        return {}
    return {"rope_scaling": {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}}


def _unknown(architecture: object, where: str) -> Problem:
    meant = suggest(str(architecture), MODEL_TYPES)
    known = ", ".join(sorted(MODEL_TYPES))
    return Problem(
        f'{where} is of the architecture "{architecture}", which cannot be planned from a GGUF file alone',
        remedy=f"{meant} put the config.json of the original model beside it (planned without one: {known})".lstrip(),
        cause="unsupported_architecture",
    )
