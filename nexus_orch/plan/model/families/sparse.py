"""Decoders with routed experts: Mixtral, Qwen3 MoE, DeepSeek (MLA), GPT-OSS, GLM-4.5, MiniMax-M2, Llama 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nexus_orch.plan.model.architecture import AttentionCache, Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.dense import layer_count, sliding_layers


def read_experts(reader: ConfigReader, *, bias: bool = False, router_bias: bool = False) -> blocks.Experts:
    """The routed experts by the many names of their fields."""
    return blocks.Experts(
        hidden=reader.integer("hidden_size"),
        width=reader.integer("moe_intermediate_size", "intermediate_size"),
        count=reader.integer("num_experts", "num_local_experts", "n_routed_experts", maximum=10_000),
        per_token=reader.integer(
            "num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_topk", maximum=10_000
        ),
        bias=bias,
        router_bias=router_bias,
    )


def dense_or_sparse(count: int, is_sparse: Callable[[int], bool], dense: Layer, sparse: Layer) -> tuple[Layer, ...]:
    return tuple(sparse if is_sparse(index) else dense for index in range(count))


def _every_layer(reader: ConfigReader, attention: tuple[Parameter, ...], shape: blocks.Heads) -> tuple[Layer, ...]:
    """All layers have experts; windows may differ."""
    gpt_oss = reader.text("model_type") == "gpt_oss"
    routed = read_experts(reader, bias=gpt_oss, router_bias=gpt_oss)
    parameters = (*attention, *blocks.experts(routed), *blocks.norms(shape.hidden))
    windows = sliding_layers(reader, layer_count(reader))
    kinds = {
        window: Layer(parameters, shape.cache(window), expert_width=routed.width, experts_per_token=routed.per_token)
        for window in set(windows)
    }
    return tuple(kinds[window] for window in windows)


def mixtral(reader: ConfigReader) -> tuple[Layer, ...]:
    shape = blocks.read_heads(reader)
    return _every_layer(reader, tuple(blocks.attention(shape)), shape)


def gpt_oss(reader: ConfigReader) -> tuple[Layer, ...]:
    """GPT-OSS: biases everywhere and one attention sink for each head."""
    shape = blocks.read_heads(reader)
    bias = reader.flag("attention_bias", True)
    sinks = blocks.vector("self_attn.sinks", shape.heads, "rows")
    return _every_layer(reader, (sinks, *blocks.attention(shape, qkv_bias=bias, o_bias=bias)), shape)


def minimax_m2(reader: ConfigReader) -> tuple[Layer, ...]:
    shape = blocks.read_heads(reader)
    norm = "full" if reader.flag("use_qk_norm", True) else ""
    return _every_layer(reader, tuple(blocks.attention(shape, norm=norm)), shape)


def qwen2_moe(reader: ConfigReader) -> tuple[Layer, ...]:
    """Qwen1.5 and Qwen2 MoE: a gated shared expert beside the routed ones, a bias on Q, K and V."""
    shape, routed = blocks.read_heads(reader), read_experts(reader)
    shared = reader.integer("shared_expert_intermediate_size")
    parameters = (
        *blocks.attention(shape, qkv_bias=reader.flag("qkv_bias", True)),
        *blocks.experts(routed),
        *blocks.mlp(shape.hidden, shared, name="mlp.shared_expert"),
        blocks.replicated_linear("mlp.shared_expert_gate", shape.hidden, 1, linear=False),
        *blocks.norms(shape.hidden),
    )
    layer = Layer(parameters, shape.cache(), shared, routed.width, routed.per_token)
    return (layer,) * layer_count(reader)


def qwen3_moe(reader: ConfigReader) -> tuple[Layer, ...]:
    """Qwen3 MoE: some layers may stay dense (mlp_only_layers, decoder_sparse_step)."""
    shape = blocks.read_heads(reader)
    bias = reader.flag("attention_bias", False)
    attention = tuple(blocks.attention(shape, qkv_bias=bias, o_bias=bias, norm="head"))
    routed, width = read_experts(reader), reader.integer("intermediate_size", default=1)
    only_dense = set(reader.sequence("mlp_only_layers") or ())
    step = reader.integer("decoder_sparse_step", default=1)
    tail = tuple(blocks.norms(shape.hidden))
    dense = Layer((*attention, *blocks.mlp(shape.hidden, width), *tail), shape.cache(), mlp_width=width)
    sparse = Layer(
        (*attention, *blocks.experts(routed), *tail),
        shape.cache(),
        expert_width=routed.width,
        experts_per_token=routed.per_token,
    )
    return dense_or_sparse(
        layer_count(reader), lambda index: index not in only_dense and (index + 1) % step == 0, dense, sparse
    )


def first_dense(
    reader: ConfigReader, attention: tuple[Parameter, ...], cache: AttentionCache, hidden: int
) -> tuple[Layer, ...]:
    """DeepSeek's layout: the first layers dense, then routed experts beside shared ones."""
    routed, width = read_experts(reader), reader.integer("intermediate_size")
    shared = reader.integer("n_shared_experts", default=0, minimum=0) * routed.width
    tail = tuple(blocks.norms(hidden))
    dense = Layer((*attention, *blocks.mlp(hidden, width), *tail), cache, mlp_width=width)
    extra = tuple(blocks.mlp(hidden, shared, name="mlp.shared_experts")) if shared else ()
    sparse = Layer(
        (*attention, *blocks.experts(routed), *extra, *tail),
        cache,
        mlp_width=shared,
        expert_width=routed.width,
        experts_per_token=routed.per_token,
    )
    first = reader.integer("first_k_dense_replace", default=0, minimum=0)
    step = reader.integer("moe_layer_freq", default=1)
    listed = reader.sequence("mlp_layer_types") or ()

    def is_sparse(index: int) -> bool:
        return listed[index] == "sparse" if index < len(listed) else index >= first and index % step == 0

    return dense_or_sparse(layer_count(reader), is_sparse, dense, sparse)


def glm4_moe(reader: ConfigReader) -> tuple[Layer, ...]:
    shape = blocks.read_heads(reader)
    norm = "head" if reader.flag("use_qk_norm", False) else ""
    attention = tuple(blocks.attention(shape, qkv_bias=reader.flag("attention_bias", False), norm=norm))
    return first_dense(reader, attention, shape.cache(), shape.hidden)


def deepseek(reader: ConfigReader) -> tuple[Layer, ...]:
    """DeepSeek V2, V3, V3.2, Kimi K2 and GLM-5: multi-head latent attention, V3.2 and GLM-5 with an indexer."""
    hidden, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    latent, rope = reader.integer("kv_lora_rank"), reader.integer("qk_rope_head_dim")
    attention = [*latent_attention(reader, hidden, heads, latent, rope)]
    index_dim = reader.optional_integer("index_head_dim")
    if index_dim is not None:
        rank, index_heads = reader.integer("q_lora_rank"), reader.integer("index_n_heads")
        attention += [
            blocks.replicated_linear("self_attn.indexer.wq_b", rank, index_heads * index_dim),
            blocks.replicated_linear("self_attn.indexer.wk", hidden, index_dim),
            blocks.vector("self_attn.indexer.k_norm.weight", index_dim),
            blocks.vector("self_attn.indexer.k_norm.bias", index_dim),
            blocks.replicated_linear("self_attn.indexer.weights_proj", hidden, index_heads),
        ]
    # One key vector in FP8 and its float32 scale (vLLM: models/deepseek_v2.py, DeepseekV32IndexerCache).
    index_bytes = 0 if index_dim is None else index_dim + 4
    cache = AttentionCache(1, latent + rope, 0, latent=True, index_bytes=index_bytes)
    return first_dense(reader, tuple(attention), cache, hidden)


def latent_attention(reader: ConfigReader, hidden: int, heads: int, latent: int, rope: int) -> Iterator[Parameter]:
    """Queries and one latent vector for all keys and values, both through matrices of low rank."""
    nope, value = reader.integer("qk_nope_head_dim"), reader.integer("v_head_dim")
    rank = reader.optional_integer("q_lora_rank")
    if rank is None:
        yield from blocks.column_linear("self_attn.q_proj", hidden, heads * (nope + rope))
    else:
        yield blocks.replicated_linear("self_attn.q_a_proj", hidden, rank)
        yield blocks.vector("self_attn.q_a_layernorm", rank)
        yield from blocks.column_linear("self_attn.q_b_proj", rank, heads * (nope + rope))
    yield blocks.replicated_linear("self_attn.kv_a_proj_with_mqa", hidden, latent + rope)
    yield blocks.vector("self_attn.kv_a_layernorm", latent)
    yield from blocks.column_linear("self_attn.kv_b_proj", latent, heads * (nope + value))
    yield from blocks.row_linear("self_attn.o_proj", heads * value, hidden)


def llama4(reader: ConfigReader) -> tuple[Layer, ...]:
    """Llama 4: every `interleave_moe_layer_step`-th layer routes one expert beside a shared one; three of four layers
    attend within chunks."""
    shape = blocks.read_heads(reader)
    attention = tuple(blocks.attention(shape, qkv_bias=reader.flag("attention_bias", False)))
    width, dense_width = reader.integer("intermediate_size"), reader.integer("intermediate_size_mlp")
    routed = read_experts(reader)
    step = reader.integer("interleave_moe_layer_step", default=1)
    chunk, count = reader.optional_integer("attention_chunk_size"), layer_count(reader)
    tail = tuple(blocks.norms(shape.hidden))
    sparse = (*attention, *blocks.experts(routed), *blocks.mlp(shape.hidden, width, name="mlp.shared_expert"), *tail)
    dense = (*attention, *blocks.mlp(shape.hidden, dense_width), *tail)

    def build(is_sparse: bool, window: int | None) -> Layer:
        if is_sparse:
            return Layer(sparse, shape.cache(window), width, routed.width, routed.per_token)
        return Layer(dense, shape.cache(window), mlp_width=dense_width)

    kinds = {(flag, window): build(flag, window) for flag in (False, True) for window in (None, chunk)}
    return tuple(kinds[(index + 1) % step == 0, chunk if (index + 1) % 4 else None] for index in range(count))
