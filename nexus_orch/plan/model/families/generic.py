"""A model type that no family describes, by the keys that most configurations share: a dense or sparse transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_orch.plan.model.architecture import AttentionCache, Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks, sparse
from nexus_orch.plan.model.families.dense import layer_count, sliding_layers

EXACT = (
    "arcee",
    "axk1",
    "cohere2_moe",
    "ernie4_5_moe",
    "exaone_moe",
    "granitemoe",
    "hy_v3",
    "jais2",
    "mellum",
    "mistral4",
    "olmo",
    "olmoe",
    "phimoe",
    "solar_open",
    "stablelm",
)
"""Model types whose usual keys tell everything: counted like this, their parameters are those that transformers 5.19
makes of the same configuration, to 0.02 %."""

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_kv_heads", "num_query_groups", "multi_query_group_num"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "ffn_size", "dense_intermediate_size"),
    "max_position_embeddings": ("n_positions", "max_sequence_length", "max_seq_len", "seq_length", "model_max_length"),
    "vocab_size": ("padded_vocab_size",),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts"),
    "num_experts_per_tok": ("moe_topk", "moe_top_k", "moe_k", "num_selected_experts", "top_k_experts", "experts_top_k"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_intermediate_size"),
    "n_shared_experts": ("num_shared_experts", "num_shared_expert", "moe_num_shared_experts", "n_shared_expert"),
    "shared_expert_intermediate_size": ("moe_shared_expert_intermediate_size", "share_expert_dim"),
    "first_k_dense_replace": ("num_dense_layers", "moe_layer_start_index", "moe_first_k_dense_replace"),
}
"""What the usual keys are called elsewhere."""

_STATES = (
    "ssm_state_size",
    "mamba_d_state",
    "state_size",
    "linear_num_key_heads",
    "conv_L_cache",
    "linear_attn_config",
)
"""Keys of layers that keep a state, in as many shapes as there are models."""
_ATTENTION = frozenset({"full_attention", "sliding_attention", "attention", "chunked_attention", "full", "sliding"})
_UNGATED = frozenset({"relu", "relu2", "xielu", "gelu", "gelu_new", "gelu_fast", "quick_gelu"})
"""Activations of plain feed-forward blocks; others are taken for gated ones."""
_MOST_SHOWN = 3


def usual_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the usual name of each of its keys beside its own."""
    named = dict(config)
    for name, others in _OTHER_NAMES.items():
        if named.get(name) is None:
            found = next((config[other] for other in others if config.get(other) is not None), None)
            if isinstance(found, list) and found:  # one for each layer
                found = max((value for value in found if isinstance(value, int)), default=None)
            if found is not None:
                named[name] = found
    return named


def unusual(config: Mapping[str, Any]) -> str | None:
    """What keeps this configuration from being counted as a usual transformer; None where nothing does."""
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(kinds, list | tuple):
        other = sorted({str(kind) for kind in kinds} - _ATTENTION)
        if other:
            return f"it has layers of the kind {', '.join(other[:_MOST_SHOWN])}"
    if config.get("zero_expert_num"):
        return "some of its experts are none (zero_expert_num)"
    state = next((key for key in _STATES if config.get(key)), None)
    return None if state is None else f"some of its layers keep a state ({state})"


def generic(reader: ConfigReader) -> tuple[Layer, ...]:
    """Attention (or multi-head latent attention) and a feed-forward block, or routed experts, in every layer."""
    count = layer_count(reader)
    hidden = reader.integer("hidden_size")
    if reader.config.get("kv_lora_rank") is not None:
        attention, caches = _latent(reader, hidden, count)
    else:
        attention, caches = _heads(reader, count)
    dense, routed = _dense(reader, hidden), _routed(reader)
    tail = tuple(blocks.norms(hidden))
    built: dict[tuple[AttentionCache, bool], Layer] = {}
    layers = []
    for index, cache in enumerate(caches):
        key = (cache, routed is not None and _is_sparse(reader, index))
        if key not in built:
            built[key] = _layer(reader, (*attention, *tail), cache, dense, routed if key[1] else None)
        layers.append(built[key])
    return tuple(layers)


def _heads(reader: ConfigReader, count: int) -> tuple[tuple[Parameter, ...], list[AttentionCache]]:
    shape = blocks.read_heads(reader)
    bias = reader.config.get("attention_bias") is True or reader.config.get("qkv_bias") is True
    windows = sliding_layers(reader, count)
    return tuple(blocks.attention(shape, qkv_bias=bias, norm="head")), [shape.cache(window) for window in windows]


def _latent(reader: ConfigReader, hidden: int, count: int) -> tuple[tuple[Parameter, ...], list[AttentionCache]]:
    latent, rope = reader.integer("kv_lora_rank"), reader.integer("qk_rope_head_dim")
    heads = reader.integer("num_attention_heads")
    cache = AttentionCache(1, latent + rope, 0, latent=True)
    return tuple(sparse.latent_attention(reader, hidden, heads, latent, rope)), [cache] * count


def _dense(reader: ConfigReader, hidden: int) -> tuple[int, tuple[Parameter, ...]]:
    width = reader.integer("intermediate_size", default=4 * hidden)
    gated = str(reader.config.get("hidden_act") or reader.config.get("activation_function") or "silu") not in _UNGATED
    return width, tuple(blocks.mlp(hidden, width, gated=gated, bias=reader.config.get("mlp_bias") is True))


def _routed(reader: ConfigReader) -> blocks.Experts | None:
    if not reader.integer("num_experts", default=0, minimum=0):
        return None
    return sparse.read_experts(reader)


def _is_sparse(reader: ConfigReader, index: int) -> bool:
    """Which layers have experts: listed one by one, or all after the first few, or every so many."""
    listed = reader.config.get("mlp_layer_types") or reader.config.get("moe_layer_freq")
    if isinstance(listed, list | tuple) and index < len(listed):
        return listed[index] in ("sparse", 1)
    if index in (reader.config.get("mlp_only_layers") or ()):
        return False
    step = reader.config.get("decoder_sparse_step") or reader.config.get("interleave_moe_layer_step") or 1
    return index >= reader.integer("first_k_dense_replace", default=0, minimum=0) and (
        not isinstance(step, int) or step < 1 or (index + 1) % step == 0
    )


def _layer(
    reader: ConfigReader,
    rest: tuple[Parameter, ...],
    cache: AttentionCache,
    dense: tuple[int, tuple[Parameter, ...]],
    routed: blocks.Experts | None,
) -> Layer:
    width, block = dense
    if routed is None:
        return Layer((*rest, *block), cache, mlp_width=width)
    shared = reader.integer("shared_expert_intermediate_size", default=0, minimum=0) or (
        reader.integer("n_shared_experts", default=0, minimum=0) * routed.width
    )
    beside = tuple(blocks.mlp(routed.hidden, shared, name="mlp.shared_experts")) if shared else ()
    return Layer((*rest, *blocks.experts(routed), *beside), cache, shared, routed.width, routed.per_token)
