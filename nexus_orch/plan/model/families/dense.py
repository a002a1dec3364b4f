"""Decoders in which every layer is attention and a feed-forward block: Llama, Qwen, Gemma, Phi, GLM, Cohere, OPT ..."""

from __future__ import annotations

from nexus_orch.plan.model.architecture import Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks

_FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def layer_count(reader: ConfigReader) -> int:
    return reader.integer("num_hidden_layers", maximum=2000)


def sliding_layers(reader: ConfigReader, count: int) -> tuple[int | None, ...]:
    """The window of each layer, None for full attention.

    From layer_types; else from sliding_window_pattern (the last of each group is full); else Gemma 2 alternates.
    """
    window = reader.optional_integer("sliding_window")
    if window is None or reader.flag("use_sliding_window", True) is False:
        return (None,) * count
    kinds = reader.sequence("layer_types", count)
    if kinds is not None:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    letters = reader.config.get("sliding_window_pattern")
    if isinstance(letters, str) and letters:  # EXAONE 4: "LLLG", the last of all layers is always full
        return tuple(
            None if letters[index % len(letters)] == "G" or index == count - 1 else window for index in range(count)
        )
    pattern = reader.optional_integer("sliding_window_pattern")
    if pattern is None and reader.text("model_type") == "gemma2":
        return tuple(window if index % 2 == 0 else None for index in range(count))
    if pattern is None:
        return (window,) * count
    return tuple(None if (index + 1) % pattern == 0 else window for index in range(count))


def _uniform(
    reader: ConfigReader,
    *,
    qkv_bias: bool = False,
    o_bias: bool = False,
    mlp_bias: bool = False,
    norm: str = "",
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm"),
) -> tuple[Layer, ...]:
    """Equal layers that differ at most in their attention window."""
    shape = blocks.read_heads(reader)
    width = reader.integer("intermediate_size")
    parameters = (
        *blocks.attention(shape, qkv_bias=qkv_bias, o_bias=o_bias, norm=norm),
        *blocks.mlp(shape.hidden, width, bias=mlp_bias),
        *blocks.norms(shape.hidden, norms),
    )
    windows = sliding_layers(reader, layer_count(reader))
    kinds = {window: Layer(parameters, shape.cache(window), mlp_width=width) for window in set(windows)}
    return tuple(kinds[window] for window in windows)


def llama(reader: ConfigReader) -> tuple[Layer, ...]:
    """Llama, Mistral, Granite, SmolLM3, InternLM2, Phi-3 ...: no norm on Q and K, biases as configured."""
    bias = reader.flag("attention_bias", reader.flag("bias", False))
    return _uniform(reader, qkv_bias=bias, o_bias=bias, mlp_bias=reader.flag("mlp_bias", False))


def qwen2(reader: ConfigReader) -> tuple[Layer, ...]:
    """Qwen2 and Qwen2.5: a bias on Q, K and V."""
    return _uniform(reader, qkv_bias=reader.flag("qkv_bias", True))


def qwen3(reader: ConfigReader) -> tuple[Layer, ...]:
    bias = reader.flag("attention_bias", False)
    return _uniform(reader, qkv_bias=bias, o_bias=bias, norm="head")


def gemma2(reader: ConfigReader) -> tuple[Layer, ...]:
    return _uniform(reader, norms=_FOUR_NORMS)


def gemma3(reader: ConfigReader) -> tuple[Layer, ...]:
    return _uniform(reader, norm="head", norms=_FOUR_NORMS)


def glm(reader: ConfigReader) -> tuple[Layer, ...]:
    return _uniform(reader, qkv_bias=reader.flag("attention_bias", False))


def glm4(reader: ConfigReader) -> tuple[Layer, ...]:
    return _uniform(reader, qkv_bias=reader.flag("attention_bias", False), norms=_FOUR_NORMS)


def olmo2(reader: ConfigReader) -> tuple[Layer, ...]:
    """OLMo 2 normalizes after the blocks, and Q and K over all their heads."""
    return _uniform(reader, norm="full", norms=("post_attention_layernorm", "post_feedforward_layernorm"))


def exaone4(reader: ConfigReader) -> tuple[Layer, ...]:
    """EXAONE 4 normalizes after the blocks, and Q and K by head (vLLM: models/exaone4.py)."""
    return _uniform(reader, norm="head", norms=("post_attention_layernorm", "post_feedforward_layernorm"))


def seed_oss(reader: ConfigReader) -> tuple[Layer, ...]:
    """Seed-OSS: a bias on Q, K and V alone."""
    bias, o_bias = reader.flag("attention_bias", True), reader.flag("attention_out_bias", False)
    return _uniform(reader, qkv_bias=bias, o_bias=o_bias, mlp_bias=reader.flag("mlp_bias", False))


def starcoder2(reader: ConfigReader) -> tuple[Layer, ...]:
    """StarCoder 2: layer norms and biases everywhere, a plain feed-forward block."""
    shape, width = blocks.read_heads(reader), reader.integer("intermediate_size")
    bias = reader.flag("use_bias", True)
    names = tuple(
        f"{name}.{part}" for name in ("input_layernorm", "post_attention_layernorm") for part in ("weight", "bias")
    )
    parameters = (
        *blocks.attention(shape, qkv_bias=bias, o_bias=bias),
        *blocks.mlp(shape.hidden, width, gated=False, bias=bias),
        *blocks.norms(shape.hidden, names),
    )
    windows = sliding_layers(reader, layer_count(reader))
    kinds = {window: Layer(parameters, shape.cache(window), mlp_width=width) for window in set(windows)}
    return tuple(kinds[window] for window in windows)


def cohere(reader: ConfigReader) -> tuple[Layer, ...]:
    """Command R: attention and feed-forward side by side under one norm."""
    norm = "full" if reader.flag("use_qk_norm", False) else ""
    bias = reader.flag("attention_bias", False)
    return _uniform(reader, qkv_bias=bias, o_bias=bias, norm=norm, norms=("input_layernorm",))


def nemotron_nas(reader: ConfigReader) -> tuple[Layer, ...]:
    """Llama-Nemotron: `block_configs` gives each layer its own attention (or none) and feed-forward width."""
    hidden, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    count = layer_count(reader)
    found = reader.sequence("block_configs", count)
    if found is None:
        reader.integer("block_configs")
        return ()
    built: dict[tuple[int | None, int], Layer] = {}
    layers = []
    for index, block in enumerate(found):
        part = ConfigReader(block if isinstance(block, dict) else {}, f"block_configs[{index}].", reader.problems)
        key = _nas_block(part, hidden)
        if key not in built:
            built[key] = _nas_layer(hidden, heads, *key)
        layers.append(built[key])
    return tuple(layers)


def _nas_block(block: ConfigReader, hidden: int) -> tuple[int | None, int]:
    """Heads in each KV group (None: no attention) and feed-forward width (0: none) of one block."""
    attention, ffn = block.section("attention"), block.section("ffn")
    group = None
    if attention is not None and not attention.flag("no_op", False):
        group = attention.integer("n_heads_in_group")
    if ffn is None or ffn.flag("no_op", False):
        return group, 0
    factor = ffn.config.get("ffn_mult")
    if not isinstance(factor, int | float) or not 0 < factor < 64:
        ffn.wrong("ffn_mult", factor, "must be a number between 0 and 64")
        return group, 0
    # transformers, configuration_decilm: _ffn_mult_to_intermediate_size rounds up to a multiple of 256.
    return group, -(-int(2 * factor * hidden / 3) // 256) * 256


def _nas_layer(hidden: int, heads: int, group: int | None, width: int) -> Layer:
    parameters: list[Parameter] = []
    cache = None
    if group is not None:
        shape = blocks.Heads(hidden, heads, max(1, heads // group), hidden // heads)
        parameters += [*blocks.attention(shape), *blocks.norms(hidden, ("input_layernorm",))]
        cache = shape.cache()
    if width:
        parameters += [*blocks.mlp(hidden, width), *blocks.norms(hidden, ("post_attention_layernorm",))]
    return Layer(tuple(parameters), cache, mlp_width=width)


def opt(reader: ConfigReader) -> tuple[Layer, ...]:
    """OPT: biases everywhere, layer norms with bias, a plain feed-forward block."""
    shape = blocks.read_heads(reader)
    width = reader.integer("ffn_dim")
    bias = reader.flag("enable_bias", True)
    parameters = (
        *blocks.attention(shape, qkv_bias=bias, o_bias=bias),
        *blocks.mlp(shape.hidden, width, gated=False, bias=bias),
        *blocks.norms(shape.hidden, ("attn_norm.weight", "attn_norm.bias", "final_norm.weight", "final_norm.bias")),
    )
    return (Layer(parameters, shape.cache(), mlp_width=width),) * layer_count(reader)


def falcon(reader: ConfigReader) -> tuple[Layer, ...]:
    """Falcon-7B: one KV head, attention and feed-forward side by side. Newer Falcons are refused."""
    if reader.flag("new_decoder_architecture", False):
        reader.wrong("new_decoder_architecture", True, "is not known to the planner (only Falcon-7B's layout is)")
    hidden, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    kv_heads = 1 if reader.flag("multi_query", True) else reader.integer("num_kv_heads", default=heads)
    shape = blocks.Heads(hidden, heads, kv_heads, max(1, hidden // heads))
    bias = reader.flag("bias", False)
    norms: tuple[str, ...] = ("input_layernorm.weight", "input_layernorm.bias")
    if not reader.flag("parallel_attn", True):
        norms += ("post_attention_layernorm.weight", "post_attention_layernorm.bias")
    width = 4 * hidden
    parameters = (
        *blocks.attention(shape, qkv_bias=bias, o_bias=bias),
        *blocks.mlp(hidden, width, gated=False, bias=bias),
        *blocks.norms(hidden, norms),
    )
    return (Layer(parameters, shape.cache(), mlp_width=width),) * layer_count(reader)
