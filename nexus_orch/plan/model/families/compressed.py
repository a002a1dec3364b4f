"""DeepSeek V4: attention to compressed keys and values beside a window, residual streams mixed by hyper-connections."""

from __future__ import annotations

from collections.abc import Iterator

from nexus_orch.plan.model.architecture import CompressedCache, Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.dense import layer_count
from nexus_orch.plan.model.families.sparse import read_experts

FLOAT32 = 2
"""Float32 elements count as two of the model's type."""


def deepseek_v4(reader: ConfigReader) -> tuple[Layer, ...]:
    """The layers by their compression: none, 4 tokens in one with an indexer, or 128 (vLLM 0.23.0:
    models/deepseek_v4/attention.py, compressor.py, nvidia/model.py)."""
    count, ratios = layer_count(reader), reader.sequence("compress_ratios") or ()
    hashed = reader.integer("num_hash_layers", default=0, minimum=0)
    kinds: dict[tuple[int, bool], Layer] = {}
    found: list[Layer] = []
    for index in range(count):
        ratio = ratios[index] if index < len(ratios) and isinstance(ratios[index], int) else 0
        key = (max(1, ratio), index < hashed)
        if key not in kinds:
            kinds[key] = _layer(reader, *key)
        found.append(kinds[key])
    return tuple(found)


USUAL_BATCH = 8192


def buffers(reader: ConfigReader, hidden: int, positions: int) -> tuple[Parameter, ...]:
    """What is allocated with the weights: a second table of rotary positions, both in float32 (common/rope.py), and the
    residual streams of a batch for a draft (nvidia/model.py: _mtp_hidden_buffer)."""
    rope, streams = reader.integer("qk_rope_head_dim"), reader.integer("hc_mult", default=4)
    return (
        Parameter("rotary_emb.cos_sin_cache", positions, (2 * FLOAT32 - 1) * rope),
        Parameter("mtp_hidden_buffer", USUAL_BATCH, streams * hidden),
    )


def _layer(reader: ConfigReader, ratio: int, is_hashed: bool) -> Layer:
    hidden, routed = reader.integer("hidden_size"), read_experts(reader)
    dim, window = reader.integer("head_dim", default=512), reader.integer("sliding_window", default=128)
    index_dim = reader.integer("index_head_dim", default=128) if ratio == 4 else 0
    shared = reader.integer("n_shared_experts", default=0, minimum=0) * routed.width
    parameters = (
        *_attention(reader, hidden, dim, ratio),
        *_streams(reader, hidden),
        *blocks.experts(routed),
        *(_hash_table(reader, routed.per_token) if is_hashed else (blocks.vector("mlp.gate.bias", routed.count),)),
        *(blocks.mlp(hidden, shared, name="mlp.shared_experts") if shared else ()),
        *blocks.norms(hidden),
    )
    cache = CompressedCache(ratio, dim, window, index_dim)
    return Layer(parameters, cache, shared, routed.width, routed.per_token)


def _attention(reader: ConfigReader, hidden: int, dim: int, ratio: int) -> Iterator[Parameter]:
    """Queries of low rank, one key that is the value as well, an output matrix in groups of low rank."""
    heads, rank = reader.integer("num_attention_heads"), reader.integer("q_lora_rank")
    groups, out = reader.integer("o_groups"), reader.integer("o_lora_rank")
    yield blocks.replicated_linear("self_attn.fused_wqa_wkv", hidden, rank + dim)
    yield from blocks.norms(rank, ("self_attn.q_norm",))
    yield from blocks.norms(dim, ("self_attn.kv_norm",))
    yield from blocks.column_linear("self_attn.wq_b", rank, heads * dim)
    yield from blocks.column_linear("self_attn.wo_a", heads * dim // groups, groups * out)
    yield from blocks.row_linear("self_attn.wo_b", groups * out, hidden)
    if ratio > 1:
        yield from _compressor("self_attn.compressor", hidden, dim, ratio)
    if ratio == 4:
        index_heads, index_dim = reader.integer("index_n_heads"), reader.integer("index_head_dim", default=128)
        yield blocks.replicated_linear("self_attn.indexer.wq_b", rank, index_heads * index_dim)
        yield blocks.replicated_linear("self_attn.indexer.weights_proj", hidden, index_heads, linear=False)
        yield from _compressor("self_attn.indexer.compressor", hidden, index_dim, ratio)


def _compressor(name: str, hidden: int, dim: int, ratio: int) -> Iterator[Parameter]:
    width = (2 if ratio == 4 else 1) * dim  # windows of four overlap
    yield Parameter(f"{name}.ape", ratio, FLOAT32 * width)
    yield blocks.replicated_linear(f"{name}.fused_wkv_wgate", hidden, 2 * width, linear=False)
    yield blocks.vector(f"{name}.norm", dim)


def _streams(reader: ConfigReader, hidden: int) -> Iterator[Parameter]:
    """The hyper-connections around both blocks, in float32."""
    streams = reader.integer("hc_mult", default=4)
    for name in ("hc_attn_fn", "hc_ffn_fn"):
        yield Parameter(name, FLOAT32 * (2 + streams) * streams, streams * hidden)


def _hash_table(reader: ConfigReader, per_token: int) -> tuple[Parameter, ...]:
    """The experts of each token of the vocabulary, int32."""
    return (Parameter("mlp.gate.tid2eid", reader.integer("vocab_size"), FLOAT32 * per_token),)
