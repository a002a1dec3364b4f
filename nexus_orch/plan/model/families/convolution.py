"""LFM2: short convolutions with attention in some layers, experts after the first few in the sparse ones."""

from __future__ import annotations

from nexus_orch.plan.model.architecture import Layer, Parameter, StateCache
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.dense import layer_count
from nexus_orch.plan.model.families.sparse import read_experts

_NORMS = ("operator_norm", "ffn_norm")


def lfm2(reader: ConfigReader) -> tuple[Layer, ...]:
    """Each layer mixes by attention or by a gated convolution, which keeps some positions (vLLM: models/lfm2.py,
    mamba_utils.py, short_conv_state_shape)."""
    shape, count = blocks.read_heads(reader), layer_count(reader)
    kinds = reader.sequence("layer_types", count)
    listed = reader.config.get("full_attn_idxs")
    if kinds is None and isinstance(listed, list | tuple):
        kinds = tuple("full_attention" if index in listed else "conv" for index in range(count))
    if kinds is None:
        reader.integer("layer_types")
        return ()
    kernel, bias = reader.integer("conv_L_cache", default=3), reader.flag("conv_bias", False)
    convolution = (
        *blocks.column_linear("conv.in_proj", shape.hidden, 3 * shape.hidden, bias=bias),
        Parameter("conv.conv.weight", shape.hidden, kernel, "rows"),
        *([blocks.vector("conv.conv.bias", shape.hidden, "rows")] if bias else []),
        *blocks.row_linear("conv.out_proj", shape.hidden, shape.hidden, bias=bias),
    )
    attention = tuple(blocks.attention(shape, norm="head"))
    dense = _width(reader)
    routed = read_experts(reader) if reader.config.get("num_experts") else None
    first_sparse = reader.integer("num_dense_layers", default=0, minimum=0) if routed else count
    tail = tuple(blocks.norms(shape.hidden, _NORMS))

    def build(attends: bool, is_sparse: bool) -> Layer:
        mixer = attention if attends else convolution
        cache = shape.cache() if attends else StateCache(shape.hidden * (kernel - 1), 0)
        if is_sparse and routed is not None:
            parameters = (*mixer, *blocks.experts(routed), *tail)
            return Layer(parameters, cache, expert_width=routed.width, experts_per_token=routed.per_token)
        return Layer((*mixer, *blocks.mlp(shape.hidden, dense), *tail), cache, mlp_width=dense)

    keys = [(kind == "full_attention", index >= first_sparse) for index, kind in enumerate(kinds)]
    layers = {key: build(*key) for key in dict.fromkeys(keys)}
    return tuple(layers[key] for key in keys)


def _width(reader: ConfigReader) -> int:
    """Two thirds of the configured width, rounded up to a multiple, unless the configuration says otherwise."""
    width = reader.integer("block_ff_dim", "intermediate_size")
    if reader.config.get("num_experts") or not reader.flag("block_auto_adjust_ff_dim", True):
        return width
    factor = reader.config.get("block_ffn_dim_multiplier")
    scaled = int((factor if isinstance(factor, int | float) and 0 < factor < 64 else 1) * int(2 * width / 3))
    multiple = reader.integer("block_multiple_of", default=256)
    return -(-scaled // multiple) * multiple
