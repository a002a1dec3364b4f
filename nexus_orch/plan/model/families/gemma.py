"""Gemma 4 and Gemma 3n: wider global heads, experts beside a dense block, embeddings for each layer, shared caches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nexus_orch.plan.model.architecture import Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.dense import layer_count, sliding_layers
from nexus_orch.plan.model.families.sparse import read_experts

_FOUR_NORMS = ("n1", "n2", "n3", "n4")


def gemma4(reader: ConfigReader) -> tuple[Layer, ...]:
    """Gemma 4. The last `num_kv_shared_layers` layers have no keys and values of their own (vLLM: models/gemma4.py)."""
    shape = blocks.read_heads(reader)
    shares_projection = reader.flag("attention_k_eq_v", False)
    wide = blocks.Heads(
        shape.hidden,
        shape.heads,
        reader.integer("num_global_key_value_heads", default=shape.kv_heads) if shares_projection else shape.kv_heads,
        reader.integer("global_head_dim", default=512),
        shared_kv=shares_projection,
    )
    width = reader.integer("intermediate_size")
    routed = read_experts(reader) if reader.flag("enable_moe_block", False) else None
    tail = (*_moe(routed), *_per_layer_input(reader, shape.hidden), *blocks.norms(shape.hidden, _FOUR_NORMS))
    doubled = 2 if reader.flag("use_double_wide_mlp", False) else 1

    def build(window: int | None, shared: bool) -> Layer:
        heads, inner = shape if window else wide, width * (doubled if shared else 1)
        return Layer(
            (*_attention(heads, shared), *blocks.mlp(shape.hidden, inner), *tail),
            None if shared else heads.cache(window),
            mlp_width=inner,
            expert_width=routed.width if routed else 0,
            experts_per_token=routed.per_token if routed else 0,
        )

    windows = sliding_layers(reader, layer_count(reader))
    first_shared = len(windows) - reader.integer("num_kv_shared_layers", default=0, minimum=0)
    keys = [(window, index >= first_shared > 0) for index, window in enumerate(windows)]
    kinds = {key: build(*key) for key in dict.fromkeys(keys)}
    return tuple(kinds[key] for key in keys)


def gemma3n(reader: ConfigReader) -> tuple[Layer, ...]:
    """Gemma 3n: a low-rank path (laurel) and a router between `altup_num_inputs` streams beside each block (vLLM:
    models/gemma3n.py)."""
    shape = blocks.read_heads(reader)
    count = layer_count(reader)
    listed = reader.config.get("intermediate_size")
    widths = reader.sequence("intermediate_size", count) if isinstance(listed, list) else None
    sizes = tuple(w for w in widths if isinstance(w, int)) if widths else (reader.integer("intermediate_size"),) * count
    streams, rank = reader.integer("altup_num_inputs", default=4), reader.integer("laurel_rank", default=64)
    extra = (
        blocks.replicated_linear("laurel.linear_left", shape.hidden, rank),
        blocks.replicated_linear("laurel.linear_right", rank, shape.hidden),
        blocks.replicated_linear("altup.modality_router", shape.hidden, streams, linear=False),
        blocks.replicated_linear("altup.prediction_coefs", streams, streams * streams, linear=False),
        blocks.replicated_linear("altup.correction_coefs", streams, streams, linear=False),
        *blocks.norms(shape.hidden, ("laurel.norm", "altup.router_norm", "altup.correct_output_scale", *_FOUR_NORMS)),
        *_per_layer_input(reader, shape.hidden),
    )
    windows = sliding_layers(reader, count)
    first_shared = count - reader.integer("num_kv_shared_layers", default=0, minimum=0)
    keys = [
        (window, width, i >= first_shared > 0) for i, (window, width) in enumerate(zip(windows, sizes, strict=False))
    ]
    kinds = {
        (window, width, shared): Layer(
            (*_attention(shape, shared), *blocks.mlp(shape.hidden, width), *extra),
            None if shared else shape.cache(window),
            mlp_width=width,
        )
        for window, width, shared in dict.fromkeys(keys)
    }
    return tuple(kinds[key] for key in keys)


def per_layer_embedding(reader: ConfigReader, layers: int) -> Iterator[Parameter]:
    """The table of embeddings for every layer, and what brings the model's own to their width."""
    width = reader.integer("hidden_size_per_layer_input", default=0, minimum=0)
    if not width:
        return
    hidden = reader.integer("hidden_size")
    vocabulary = reader.integer("vocab_size_per_layer_input", default=reader.integer("vocab_size"))
    yield Parameter("embed_tokens_per_layer.weight", vocabulary, layers * width, "vocabulary")
    yield Parameter("per_layer_model_projection.weight", layers * width, hidden)
    yield blocks.vector("per_layer_projection_norm", width)
    streams = reader.optional_integer("altup_num_inputs")
    for index in range((streams or 1) - 1):
        yield Parameter(f"altup_projections.{index}.weight", hidden, hidden)
        yield Parameter(f"altup_unembed_projections.{index}.weight", hidden, hidden)


def _per_layer_input(reader: ConfigReader, hidden: int) -> Iterator[Parameter]:
    width = reader.integer("hidden_size_per_layer_input", default=0, minimum=0)
    if width:
        yield blocks.replicated_linear("per_layer_input_gate", hidden, width)
        yield blocks.replicated_linear("per_layer_projection", width, hidden)
        yield blocks.vector("post_per_layer_input_norm", hidden)


def _attention(heads: blocks.Heads, shared: bool) -> Iterator[Parameter]:
    """A layer that shares the cache of an earlier one projects queries alone."""
    for parameter in blocks.attention(heads, norm="head"):
        if not shared:
            yield parameter
        elif parameter.kv_heads:
            yield replace(parameter, name="self_attn.q_proj.weight", kv_heads=0, kv_head_rows=0)
        elif "k_norm" not in parameter.name:
            yield parameter


def _moe(routed: blocks.Experts | None) -> Iterator[Parameter]:
    if routed is None:
        return
    yield from blocks.experts(routed)
    yield blocks.vector("router.scale", routed.hidden)
    yield blocks.vector("router.per_expert_scale", routed.count)
    yield from blocks.norms(routed.hidden, ("pre_moe_norm", "post_moe_norm", "post_mlp_norm"))
