"""Kimi Linear and the language model of Kimi K3: Kimi delta attention beside latent attention, then experts."""

from __future__ import annotations

from collections.abc import Iterator

from nexus_orch.plan.model.architecture import AttentionCache, Layer, LayerCache, Parameter, StateCache
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.dense import layer_count
from nexus_orch.plan.model.families.sparse import latent_attention


def kimi_linear(reader: ConfigReader) -> tuple[Layer, ...]:
    """Layers by the 1-based lists of linear_attn_config (vLLM 0.23.0: models/kimi_linear.py)."""
    hidden, count = reader.integer("hidden_size"), layer_count(reader)
    linear = reader.section("linear_attn_config") or reader
    attends = set(linear.sequence("full_attn_layers") or ())
    first = reader.integer("first_k_dense_replace", default=0, minimum=0)
    latent, rope = reader.integer("kv_lora_rank"), reader.integer("qk_rope_head_dim")
    heads = reader.integer("num_attention_heads")
    mixers: dict[bool, tuple[tuple[Parameter, ...], LayerCache]] = {
        True: (
            tuple(latent_attention(reader, hidden, heads, latent, rope)),
            AttentionCache(1, latent + rope, 0, latent=True),
        ),
        False: _delta(linear, hidden),
    }
    kinds = {(full, dense): _layer(reader, hidden, *mixers[full], dense) for full in mixers for dense in (True, False)}
    return tuple(kinds[index + 1 in attends, index < first] for index in range(count))


def _delta(linear: ConfigReader, hidden: int) -> tuple[tuple[Parameter, ...], StateCache]:
    """Kimi delta attention, and its state: a convolution over queries, keys and values, and a float32 matrix for each
    head (mamba_utils.py: kda_state_shape, kda_state_dtype)."""
    heads, dim = linear.integer("num_heads"), linear.integer("head_dim")
    kernel = linear.integer("short_conv_kernel_size", default=4)
    wide = heads * dim
    cache = StateCache(3 * wide * (kernel - 1), heads * dim * dim, True, 3 * wide)
    return tuple(_projections(linear, hidden, heads, dim, kernel)), cache


def _projections(linear: ConfigReader, hidden: int, heads: int, dim: int, kernel: int) -> Iterator[Parameter]:
    wide = heads * dim
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from blocks.column_linear(f"self_attn.{name}", hidden, wide)
        yield Parameter(f"self_attn.{name}.conv1d", wide, kernel, "rows")
    yield blocks.replicated_linear("self_attn.f_a_proj", hidden, dim)
    yield from blocks.column_linear("self_attn.f_b_proj", dim, wide)
    yield from blocks.column_linear("self_attn.b_proj", hidden, heads)
    if linear.flag("use_full_rank_gate", False):
        yield from blocks.column_linear("self_attn.g_proj", hidden, wide)
    else:
        yield blocks.replicated_linear("self_attn.g_a_proj", hidden, dim)
        yield from blocks.column_linear("self_attn.g_b_proj", dim, wide)
    yield blocks.vector("self_attn.dt_bias", 2 * wide, "rows")
    yield blocks.vector("self_attn.A_log", 2 * heads, "rows")
    yield blocks.vector("self_attn.o_norm", dim)
    yield from blocks.row_linear("self_attn.o_proj", wide, hidden)


def _layer(reader: ConfigReader, hidden: int, mixer: tuple[Parameter, ...], cache: LayerCache, dense: bool) -> Layer:
    width = reader.integer("intermediate_size")
    if dense:
        return Layer((*mixer, *blocks.mlp(hidden, width), *blocks.norms(hidden)), cache, mlp_width=width)
    routed = blocks.Experts(
        hidden,
        reader.integer("moe_intermediate_size"),
        reader.integer("num_experts", maximum=10_000),
        reader.integer("num_experts_per_token", "num_experts_per_tok", maximum=10_000),
        latent=reader.optional_integer("routed_expert_hidden_size"),
    )
    shared = reader.integer("num_shared_experts", default=0, minimum=0) * routed.width
    beside = blocks.mlp(hidden, shared, name="mlp.shared_experts") if shared else ()
    parameters = (*mixer, *blocks.experts(routed), *beside, *blocks.norms(hidden))
    return Layer(parameters, cache, shared, routed.width, routed.per_token)
