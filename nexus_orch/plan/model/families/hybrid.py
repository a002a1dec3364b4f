"""Decoders that mix attention with Mamba or linear attention: Qwen3-Next, Qwen3.5, Jamba, Nemotron-H, Granite 4 ..."""

from __future__ import annotations

from collections.abc import Iterator

from nexus_orch.plan.model.architecture import Layer, LayerCache, Parameter, StateCache
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.dense import layer_count
from nexus_orch.plan.model.families.sparse import read_experts


def qwen3_next(reader: ConfigReader) -> tuple[Layer, ...]:
    """Qwen3-Next and Qwen3.5: gated attention in every fourth layer, gated delta net in the others."""
    count = layer_count(reader)
    kinds = reader.sequence("layer_types", count)
    if kinds is None:
        interval = reader.integer("full_attention_interval", default=4)
        kinds = tuple("full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(count))
    shape = blocks.read_heads(reader)
    gated = blocks.Heads(shape.hidden, shape.heads, shape.kv_heads, shape.dim, q_width=2)
    delta = blocks.GatedDeltaNet(
        shape.hidden,
        reader.integer("linear_num_key_heads"),
        reader.integer("linear_key_head_dim"),
        reader.integer("linear_num_value_heads"),
        reader.integer("linear_value_head_dim"),
        reader.integer("linear_conv_kernel_dim"),
        reader.text("mamba_ssm_dtype") == "float32",
    )
    full = _qwen_layer(reader, tuple(blocks.attention(gated, norm="head")), gated.cache())
    linear = _qwen_layer(reader, tuple(delta.parameters()), delta.cache())
    return tuple(full if kind == "full_attention" else linear for kind in kinds)


def _qwen_layer(reader: ConfigReader, mixer: tuple[Parameter, ...], cache: LayerCache) -> Layer:
    hidden = reader.integer("hidden_size")
    tail = tuple(blocks.norms(hidden))
    if reader.optional_integer("num_experts") is None:
        width = reader.integer("intermediate_size")
        return Layer((*mixer, *blocks.mlp(hidden, width), *tail), cache, mlp_width=width)
    routed, shared = read_experts(reader), reader.integer("shared_expert_intermediate_size")
    parameters = (
        *mixer,
        *blocks.experts(routed),
        *blocks.mlp(hidden, shared, name="mlp.shared_expert"),
        blocks.replicated_linear("mlp.shared_expert_gate", hidden, 1, linear=False),
        *tail,
    )
    return Layer(parameters, cache, shared, routed.width, routed.per_token)


def jamba(reader: ConfigReader) -> tuple[Layer, ...]:
    """Jamba: Mamba 1 with an attention layer in each period, experts in every other layer."""
    shape = blocks.read_heads(reader)
    width, routed = reader.integer("intermediate_size"), read_experts(reader)
    mamba, state = _mamba1(reader, shape.hidden)
    attention = tuple(blocks.attention(shape))
    tail = tuple(blocks.norms(shape.hidden, ("input_layernorm", "pre_ff_layernorm")))

    def build(is_attention: bool, is_sparse: bool) -> Layer:
        mixer, cache = (attention, shape.cache()) if is_attention else (mamba, state)
        if is_sparse:
            parameters = (*mixer, *blocks.experts(routed), *tail)
            return Layer(parameters, cache, 0, routed.width, routed.per_token)
        return Layer((*mixer, *blocks.mlp(shape.hidden, width), *tail), cache, mlp_width=width)

    kinds = {(first, second): build(first, second) for first in (False, True) for second in (False, True)}
    period, offset = reader.integer("attn_layer_period"), reader.integer("attn_layer_offset", minimum=0)
    every, start = reader.integer("expert_layer_period"), reader.integer("expert_layer_offset", minimum=0)
    return tuple(kinds[index % period == offset, index % every == start] for index in range(layer_count(reader)))


_MAMBA1_CHUNK = 2048
"""What vLLM takes where a configuration names none (config/model.py: get_mamba_chunk_size)."""


def _mamba1(reader: ConfigReader, hidden: int) -> tuple[tuple[Parameter, ...], StateCache]:
    inner = reader.integer("mamba_expand", default=2) * hidden
    state, kernel = reader.integer("mamba_d_state"), reader.integer("mamba_d_conv")
    rank = reader.integer("mamba_dt_rank")
    bias = reader.flag("mamba_proj_bias", False)
    parameters = [
        *blocks.column_linear("mamba.in_proj", hidden, 2 * inner, bias=bias),
        Parameter("mamba.conv1d.weight", inner, kernel, "rows"),
        *blocks.row_linear("mamba.x_proj", inner, rank + 2 * state),
        *blocks.column_linear("mamba.dt_proj", rank, inner, bias=True),
        Parameter("mamba.A", inner, state, "rows"),
        blocks.vector("mamba.D", inner, "rows"),
        *blocks.row_linear("mamba.out_proj", inner, hidden, bias=bias),
        blocks.vector("mamba.dt_layernorm", rank),
        blocks.vector("mamba.b_layernorm", state),
        blocks.vector("mamba.c_layernorm", state),
    ]
    if reader.flag("mamba_conv_bias", True):
        parameters.append(blocks.vector("mamba.conv1d.bias", inner, "rows"))
    return tuple(parameters), StateCache(inner * (kernel - 1), inner * state, chunk=_MAMBA1_CHUNK)


_BLOCK_LETTERS = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}
"""What `layers_block_type` calls the blocks (transformers 5)."""


def nemotron_h(reader: ConfigReader) -> tuple[Layer, ...]:
    """Nemotron-H: one letter for each layer: M (Mamba 2), * (attention), - (feed-forward), E (experts)."""
    listed = reader.sequence("layers_block_type")
    if reader.config.get("hybrid_override_pattern") is None and listed is not None:
        letters = "".join(_BLOCK_LETTERS.get(str(kind), "?") for kind in listed)
        known = {"hybrid_override_pattern": letters, "num_hidden_layers": len(listed)}
        reader = ConfigReader({**reader.config, **known}, reader.prefix, reader.problems)
    pattern, count = reader.text("hybrid_override_pattern"), layer_count(reader)
    if pattern is None or len(pattern) != count or set(pattern) - set("M*-E"):
        reader.wrong("hybrid_override_pattern", pattern, f"must be {count} letters of M, *, - and E")
        return ()
    built = {letter: _nemotron_layer(reader, letter) for letter in sorted(set(pattern))}
    return tuple(built[letter] for letter in pattern)


def _nemotron_layer(reader: ConfigReader, letter: str) -> Layer:
    hidden = reader.integer("hidden_size")
    norm = tuple(blocks.norms(hidden, ("norm",)))
    if letter == "M":
        mamba = _nemotron_mamba(reader, hidden)
        return Layer((*mamba.parameters(), *norm), mamba.cache())
    if letter == "*":
        shape, bias = blocks.read_heads(reader), reader.flag("attention_bias", False)
        return Layer((*blocks.attention(shape, qkv_bias=bias, o_bias=bias), *norm), shape.cache())
    if letter == "-":
        width = reader.integer("intermediate_size")
        parameters = blocks.mlp(hidden, width, gated=False, bias=reader.flag("mlp_bias", False))
        return Layer((*parameters, *norm), None, mlp_width=width)
    return _nemotron_experts(reader, hidden, norm)


def _nemotron_mamba(reader: ConfigReader, hidden: int) -> blocks.Mamba2:
    return blocks.Mamba2(
        hidden,
        reader.integer("mamba_num_heads"),
        reader.integer("mamba_head_dim"),
        reader.integer("n_groups"),
        reader.integer("ssm_state_size"),
        reader.integer("conv_kernel"),
        reader.flag("use_conv_bias", True),
        reader.flag("use_bias", False),
        reader.text("mamba_ssm_cache_dtype") == "float32",
        chunk=reader.integer("mamba_chunk_size", "chunk_size", default=256),
    )


def _nemotron_experts(reader: ConfigReader, hidden: int, norm: tuple[Parameter, ...]) -> Layer:
    routed = blocks.Experts(
        hidden,
        reader.integer("moe_intermediate_size"),
        reader.integer("n_routed_experts", maximum=10_000),
        reader.integer("num_experts_per_tok", maximum=10_000),
        gated=False,
        latent=reader.optional_integer("moe_latent_size"),
    )
    shared = reader.integer("moe_shared_expert_intermediate_size", default=0, minimum=0)
    extra: Iterator[Parameter] = iter(())
    if shared:
        extra = blocks.mlp(hidden, shared, gated=False, name="mlp.shared_experts")
    return Layer((*blocks.experts(routed), *extra, *norm), None, shared, routed.width, routed.per_token)


def granite_hybrid(reader: ConfigReader) -> tuple[Layer, ...]:
    """Granite 4: Mamba 2 or attention, always followed by experts beside a shared block (or by the block alone)."""
    shape = blocks.read_heads(reader)
    mamba = blocks.Mamba2(
        shape.hidden,
        reader.integer("mamba_n_heads"),
        reader.integer("mamba_d_head"),
        reader.integer("mamba_n_groups"),
        reader.integer("mamba_d_state"),
        reader.integer("mamba_d_conv"),
        reader.flag("mamba_conv_bias", True),
        reader.flag("mamba_proj_bias", False),
        chunk=reader.integer("mamba_chunk_size", "chunk_size", default=256),
    )
    shared = reader.integer("shared_intermediate_size")
    has_experts = reader.integer("num_local_experts", default=0, minimum=0) > 0
    routed = read_experts(reader) if has_experts else None
    tail = (
        *(blocks.experts(routed) if routed else ()),
        *blocks.mlp(shape.hidden, shared, name="shared_mlp"),
        *blocks.norms(shape.hidden),
    )
    wide = (shared, routed.width if routed else 0, routed.per_token if routed else 0)
    state = Layer((*mamba.parameters(), *tail), mamba.cache(), *wide)
    full = Layer((*blocks.attention(shape), *tail), shape.cache(), *wide)
    kinds = reader.sequence("layer_types", layer_count(reader))
    if kinds is None:
        reader.integer("layer_types")
        return ()
    return tuple(full if kind == "attention" else state for kind in kinds)


def minimax_text(reader: ConfigReader) -> tuple[Layer, ...]:
    """MiniMax-Text-01: lightning attention with a full-attention layer in every eight, experts everywhere."""
    shape = blocks.read_heads(reader)
    routed = read_experts(reader)
    inner = shape.heads * shape.dim
    lightning = (
        *blocks.column_linear("self_attn.qkv_proj", shape.hidden, 3 * inner),
        *blocks.column_linear("self_attn.output_gate", shape.hidden, inner),
        *blocks.row_linear("self_attn.out_proj", inner, shape.hidden),
        blocks.vector("self_attn.norm", inner, "rows"),
    )
    tail = (*blocks.experts(routed), *blocks.norms(shape.hidden))
    # vLLM: mamba_utils.py, linear_attention_state_shape; the state is kept in float32.
    state = StateCache(0, shape.heads * shape.dim * shape.dim, ssm_float32=True)
    wide = (0, routed.width, routed.per_token)
    linear = Layer((*lightning, *tail), state, *wide)
    full = Layer((*blocks.attention(shape), *tail), shape.cache(), *wide)
    kinds = reader.sequence("layer_types", layer_count(reader))
    if kinds is None:
        reader.integer("layer_types")
        return ()
    return tuple(full if kind == "full_attention" else linear for kind in kinds)
