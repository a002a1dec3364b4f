"""Vision towers and projectors of multimodal models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from nexus_orch.plan.model.architecture import Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks


def tower_of(name: str, copies: int, sizes: Iterator[Parameter]) -> Iterator[Parameter]:
    """The parameters of `copies` equal blocks, kept apart: each is allocated on its own."""
    parameters = tuple(sizes)
    for index in range(copies):
        for parameter in parameters:
            yield Parameter(f"{name}.{index}.{parameter.name}", parameter.rows, parameter.columns, parameter.split)


def _attention(hidden: int, bias: bool) -> Iterator[Parameter]:
    yield from blocks.column_linear("attn.qkv", hidden, 3 * hidden, bias=bias)
    yield from blocks.row_linear("attn.proj", hidden, hidden, bias=bias)


def _layer_norm(name: str, size: int) -> Iterator[Parameter]:
    yield blocks.vector(f"{name}.weight", size)
    yield blocks.vector(f"{name}.bias", size)


def _block(hidden: int, width: int, *, gated: bool, bias: bool, layer_norm: bool) -> Iterator[Parameter]:
    yield from _attention(hidden, bias)
    yield from blocks.mlp(hidden, width, gated=gated, bias=bias)
    for name in ("norm1", "norm2"):
        if layer_norm:
            yield from _layer_norm(name, hidden)
        else:
            yield blocks.vector(name, hidden)


def _patch_inputs(vision: ConfigReader) -> int:
    patch = vision.integer("patch_size")
    channels = vision.integer("in_channels", "num_channels", default=3)
    return channels * vision.integer("temporal_patch_size", default=1) * patch * patch


def _patches(vision: ConfigReader) -> int:
    """Positions of an image: one for each patch."""
    side = vision.integer("image_size") // vision.integer("patch_size")
    return side * side


def qwen2_5_vl(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    yield Parameter("visual.patch_embed", hidden, _patch_inputs(vision))
    block = _block(hidden, width, gated=True, bias=True, layer_norm=False)
    yield from tower_of("visual.blocks", vision.integer("depth", maximum=500), block)
    yield blocks.vector("visual.merger.ln_q", hidden)
    yield from _merger("visual.merger", hidden, vision)


def qwen2_vl(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    """Qwen2-VL: `hidden_size` is the width of the language model, `embed_dim` that of the tower."""
    hidden = vision.integer("embed_dim")
    ratio = vision.config.get("mlp_ratio")
    width = int(hidden * ratio) if isinstance(ratio, int | float) and 0 < ratio < 64 else 4 * hidden
    patch, frames = vision.integer("patch_size"), vision.integer("temporal_patch_size", default=2)
    yield Parameter(
        "visual.patch_embed", hidden, vision.integer("in_channels", "in_chans", default=3) * frames * patch**2
    )
    block = _block(hidden, width, gated=False, bias=True, layer_norm=True)
    yield from tower_of("visual.blocks", vision.integer("depth", maximum=500), block)
    yield from _layer_norm("visual.merger.ln_q", hidden)
    merged = hidden * vision.integer("spatial_merge_size", default=2) ** 2
    yield from blocks.column_linear("visual.merger.fc1", merged, merged, bias=True)
    out = vision.integer("hidden_size", default=text_hidden)
    yield from blocks.row_linear("visual.merger.fc2", merged, out, bias=True)


def glm4v(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    """GLM-4.1V to 4.6V: `intermediate_size` is the width of the merger, the blocks have that of the language model."""
    hidden, out = vision.integer("hidden_size"), vision.integer("out_hidden_size", default=text_hidden)
    bias = vision.flag("attention_bias", False)
    yield Parameter("visual.patch_embed.weight", hidden, _patch_inputs(vision))
    yield blocks.vector("visual.patch_embed.bias", hidden)
    yield Parameter("visual.pos_embed", _patches(vision), hidden)
    block = [
        *blocks.column_linear("attn.qkv", hidden, 3 * hidden, bias=bias),
        *blocks.row_linear("attn.proj", hidden, hidden),
        *blocks.mlp(hidden, out),
        *blocks.norms(hidden, ("norm1", "norm2")),
    ]
    yield from tower_of("visual.blocks", vision.integer("depth", maximum=500), iter(block))
    yield from blocks.norms(hidden, ("visual.post_conv_layernorm", "visual.post_layernorm"))
    yield Parameter("visual.downsample", out, hidden * vision.integer("spatial_merge_size", default=2) ** 2)
    yield from blocks.column_linear("visual.merger.proj", out, out)
    yield from _layer_norm("visual.merger.post_projection_norm", out)
    yield from blocks.mlp(out, vision.integer("intermediate_size"), name="visual.merger")


def usual_tower(vision: ConfigReader, text_hidden: int) -> Iterator[Parameter]:
    """A tower that nobody described, by the usual keys; nothing where they are missing."""
    sizes = [_first(vision, *names) for names in _USUAL]
    if any(size is None for size in sizes):
        return
    hidden, depth = (int(size) for size in sizes if size is not None)
    width = _first(vision, "intermediate_size", "mlp_dim") or 4 * hidden
    gated = vision.config.get("hidden_act") == "silu"
    yield from tower_of("vision.layers", depth, _block(hidden, width, gated=gated, bias=True, layer_norm=True))
    merge = _first(vision, "spatial_merge_size", "merge_size") or 1
    yield Parameter("projector.linear_1", text_hidden, hidden * merge**2)
    yield Parameter("projector.linear_2", text_hidden, text_hidden)


_USUAL = (("hidden_size", "embed_dim", "vt_hidden_size"), ("num_hidden_layers", "depth", "vt_num_hidden_layers"))


def _first(vision: ConfigReader, *names: str) -> int | None:
    found = (vision.config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and 0 < value < 100_000), None)


def _merger(name: str, hidden: int, vision: ConfigReader) -> Iterator[Parameter]:
    merged = hidden * vision.integer("spatial_merge_size", default=2) ** 2
    yield from blocks.column_linear(f"{name}.fc1", merged, merged, bias=True)
    yield from blocks.row_linear(f"{name}.fc2", merged, vision.integer("out_hidden_size"), bias=True)


def qwen3_vl(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    """Qwen3-VL and Qwen3.5; each deepstack index has a merger of its own, with its norm after the shuffle."""
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    yield Parameter("visual.patch_embed.weight", hidden, _patch_inputs(vision))
    yield blocks.vector("visual.patch_embed.bias", hidden)
    yield Parameter("visual.pos_embed", vision.integer("num_position_embeddings"), hidden)
    block = _block(hidden, width, gated=False, bias=True, layer_norm=True)
    yield from tower_of("visual.blocks", vision.integer("depth", maximum=500), block)
    yield from _layer_norm("visual.merger.norm", hidden)
    yield from _merger("visual.merger", hidden, vision)
    merged = hidden * vision.integer("spatial_merge_size", default=2) ** 2
    for index in range(len(vision.sequence("deepstack_visual_indexes") or ())):
        name = f"visual.deepstack_merger_list.{index}"
        yield from _layer_norm(f"{name}.norm", merged)
        yield from _merger(name, hidden, vision)


def gemma3(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    yield Parameter("vision.patch_embed.weight", hidden, _patch_inputs(vision))
    yield blocks.vector("vision.patch_embed.bias", hidden)
    yield Parameter("vision.pos_embed", _patches(vision), hidden)
    block = _block(hidden, width, gated=False, bias=True, layer_norm=True)
    yield from tower_of("vision.layers", vision.integer("num_hidden_layers", maximum=500), block)
    yield from _layer_norm("vision.post_layernorm", hidden)
    yield Parameter("projector.mm_input_projection", hidden, text_hidden)
    yield blocks.vector("projector.mm_soft_emb_norm", hidden)


def gemma4(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    yield Parameter("vision.patch_embed", hidden, _patch_inputs(vision))
    yield Parameter("vision.pos_embed", 2 * vision.integer("position_embedding_size"), hidden)
    head = vision.integer("head_dim")
    block = [
        *_attention(hidden, bias=False),
        *blocks.mlp(hidden, width),
        *blocks.norms(hidden, ("n1", "n2", "n3", "n4")),
        *blocks.norms(head, ("q_norm", "k_norm")),
    ]
    yield from tower_of("vision.layers", vision.integer("num_hidden_layers", maximum=500), iter(block))
    yield Parameter("projector", text_hidden, hidden)


def mistral3(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    yield Parameter("vision.patch_conv", hidden, _patch_inputs(vision))
    yield blocks.vector("vision.ln_pre", hidden)
    block = _block(hidden, width, gated=True, bias=False, layer_norm=False)
    yield from tower_of("vision.layers", vision.integer("num_hidden_layers", maximum=500), block)
    yield blocks.vector("projector.norm", hidden)
    merge = config.integer("spatial_merge_size", default=2) ** 2
    yield Parameter("projector.patch_merger", hidden, merge * hidden)
    bias = config.flag("multimodal_projector_bias", False)
    yield from blocks.column_linear("projector.linear_1", hidden, text_hidden, bias=bias)
    yield from blocks.row_linear("projector.linear_2", text_hidden, text_hidden, bias=bias)


def llama4(vision: ConfigReader, text_hidden: int, config: ConfigReader) -> Iterator[Parameter]:
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    yield Parameter("vision.patch_embedding", hidden, _patch_inputs(vision))
    yield blocks.vector("vision.class_embedding", hidden)
    yield Parameter("vision.positional_embedding", _patches(vision) + 1, hidden)
    for name in ("layernorm_pre", "layernorm_post"):
        yield from _layer_norm(f"vision.{name}", hidden)
    block = _block(hidden, width, gated=False, bias=True, layer_norm=True)
    yield from tower_of("vision.layers", vision.integer("num_hidden_layers", maximum=500), block)
    inner, out = vision.integer("projector_input_dim"), vision.integer("projector_output_dim")
    yield from blocks.column_linear("vision.adapter.fc1", width, inner)
    yield from blocks.row_linear("vision.adapter.fc2", inner, out)
    yield Parameter("projector", text_hidden, vision.integer("vision_output_dim"))


TOWERS: Mapping[str, Callable[[ConfigReader, int, ConfigReader], Iterator[Parameter]]] = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
    "qwen3_omni_moe": qwen3_vl,
    "glm4v": glm4v,
    "glm46v": glm4v,
    "glm4v_moe": glm4v,
    "qwen3_5": qwen3_vl,
    "qwen3_5_moe": qwen3_vl,
    "gemma3": gemma3,
    "gemma4": gemma4,
    "mistral3": mistral3,
    "llama4": llama4,
}
"""The tower of each model type. A model type with a vision_config that is not here is planned with a note."""
