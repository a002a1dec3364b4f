"""From a config.json to an `Architecture`: one function for each family of decoders, chosen by model_type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.model.architecture import Architecture, Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import (
    audio,
    blocks,
    compressed,
    convolution,
    delta,
    dense,
    gemma,
    generic,
    hybrid,
    sparse,
    vision,
)
from nexus_orch.suggest import suggest, suggest_or_list

FAMILIES: Mapping[str, Callable[[ConfigReader], tuple[Layer, ...]]] = {
    "llama": dense.llama,
    "mistral": dense.llama,
    "mistral3": dense.llama,
    "ministral": dense.llama,
    "ministral3": dense.llama,
    "exaone4": dense.exaone4,
    "seed_oss": dense.seed_oss,
    "hunyuan_v1_dense": dense.qwen3,
    "ernie4_5": dense.llama,
    "granite_swa": dense.llama,
    "granite": dense.llama,
    "smollm3": dense.llama,
    "internlm2": dense.llama,
    "internlm3": dense.llama,
    "phi3": dense.llama,
    "qwen2": dense.qwen2,
    "qwen2_vl": dense.qwen2,
    "qwen2_5_vl": dense.qwen2,
    "qwen3": dense.qwen3,
    "qwen3_vl": dense.qwen3,
    "gemma2": dense.gemma2,
    "gemma3": dense.gemma3,
    "gemma3_text": dense.gemma3,
    "glm": dense.glm,
    "glm4": dense.glm4,
    "glm4v": dense.glm4,
    "glm46v": dense.glm4,
    "starcoder2": dense.starcoder2,
    "gemma": dense.llama,
    "cohere2": dense.cohere,
    "olmo2": dense.olmo2,
    "olmo3": dense.olmo2,
    "cohere": dense.cohere,
    "nemotron-nas": dense.nemotron_nas,
    "opt": dense.opt,
    "falcon": dense.falcon,
    "mixtral": sparse.mixtral,
    "qwen2_moe": sparse.qwen2_moe,
    "qwen3_moe": sparse.qwen3_moe,
    "qwen3_vl_moe": sparse.qwen3_moe,
    "qwen3_omni_moe": sparse.qwen3_moe,
    "gpt_oss": sparse.gpt_oss,
    "minimax_m2": sparse.minimax_m2,
    "glm4_moe": sparse.glm4_moe,
    "glm4v_moe": sparse.glm4_moe,
    "deepseek_v2": sparse.deepseek,
    "deepseek_v3": sparse.deepseek,
    "deepseek_v32": sparse.deepseek,
    "kimi_k2": sparse.deepseek,
    "glm4_moe_lite": sparse.deepseek,
    "glm_moe_dsa": sparse.deepseek,
    "deepseek_v4": compressed.deepseek_v4,
    "kimi_linear": delta.kimi_linear,
    "llama4": sparse.llama4,
    "gemma4": gemma.gemma4,
    "gemma4_unified": gemma.gemma4,
    "gemma3n": gemma.gemma3n,
    "qwen3_next": hybrid.qwen3_next,
    "qwen3_5": hybrid.qwen3_next,
    "qwen3_5_moe": hybrid.qwen3_next,
    "jamba": hybrid.jamba,
    "nemotron_h": hybrid.nemotron_h,
    "granitemoehybrid": hybrid.granite_hybrid,
    "minimax_text_01": hybrid.minimax_text,
    "lfm2": convolution.lfm2,
    "lfm2_moe": convolution.lfm2,
    **dict.fromkeys(generic.EXACT, generic.generic),
}

_CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma3": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
}
"""What published config.json files leave to the defaults of their class (transformers, Gemma3TextConfig)."""

_TIED_BY_DEFAULT = frozenset(
    (
        *("gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "gemma4_unified"),
        *("cohere", "cohere2", "lfm2", "lfm2_moe", "opt", "falcon", "starcoder2"),
    )
)
"""Families whose configuration class in transformers ties the embeddings unless told otherwise."""


_NESTED = ("text_config", "llm_config", "language_config")
"""Where multimodal configurations keep the language model."""


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether a family describes this model type."""
    return _known_type(config) is not None


def _text_key(config: Mapping[str, Any]) -> str | None:
    return next((key for key in _NESTED if isinstance(config.get(key), Mapping)), None)


def _known_type(config: Mapping[str, Any]) -> str | None:
    """The model type that a family describes: the whole model's, else that of the language model within it."""
    key = _text_key(config)
    nested = config[key] if key is not None else {}
    named = (config.get("model_type"), nested.get("model_type"))
    return next((name for name in named if isinstance(name, str) and _find_family(name) is not None), None)


def _find_family(model_type: str) -> Callable[[ConfigReader], tuple[Layer, ...]] | None:
    return FAMILIES.get(model_type) or FAMILIES.get(model_type.removesuffix("_text"))


def parse_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a config.json describes, that of a nested language model included.

    A model type that no family describes is counted as a usual transformer where its keys allow it (`is_guess`). Raises
    ConfigError with every missing and every wrong field, and where the planner cannot tell the layers.
    """
    if not isinstance(config, Mapping) or not config:
        raise ConfigError(Problem("the model's config is empty", key="model.config", remedy="give a config.json"))
    thinker = config.get("thinker_config")
    if isinstance(thinker, Mapping):  # Qwen's Omni models: what thinks is served, what talks is not
        config = {**thinker, **config}
    outer = ConfigReader(config)
    key = _text_key(config)
    text = outer.section(key or "text_config") or outer
    model_type = _known_type(config)
    family = _find_family(model_type or "")
    if model_type is None or family is None:
        return _parse_unknown(outer, text)
    if family is generic.generic:
        text = ConfigReader(generic.usual_names(text.config), text.prefix, text.problems)
    defaults = _CLASS_DEFAULTS.get(model_type)
    if defaults is not None and text is not outer:
        text = ConfigReader({**defaults, **text.config}, text.prefix, text.problems)
    architecture = _assemble(outer, text, model_type, family(text))
    if outer.problems:
        raise ConfigError(*_unique(outer.problems))
    return architecture


def _parse_unknown(outer: ConfigReader, text: ConfigReader) -> Architecture:
    """A model type that no family describes. What its configuration lacks is the planner's limit, not its mistake."""
    model_type = outer.text("model_type") or text.text("model_type")
    usual = ConfigReader(generic.usual_names(text.config))
    strange = generic.unusual(usual.config)
    if model_type is None or strange is not None:
        raise ConfigError(_unknown(model_type, strange))
    layers = generic.generic(usual)
    architecture = _assemble(outer, usual, model_type, layers)
    if usual.problems:
        first = usual.problems[0].message.removeprefix("the model's config ")
        raise ConfigError(_unknown(model_type, f"its config.json {first}"), *outer.problems)
    meant = suggest(model_type, sorted(FAMILIES), before="model.config.model_type=")
    note = (
        f'the planner does not know the model type "{model_type}": it is counted as a usual '
        f"{'mixture of experts' if architecture.is_moe else 'transformer'} by the keys of its config.json, so that "
        f"weights and KV cache may differ{f'; {meant}' if meant else ''}"
    )
    return replace(architecture, notes=(note, *architecture.notes), is_guess=True)


def _assemble(outer: ConfigReader, text: ConfigReader, model_type: str, layers: tuple[Layer, ...]) -> Architecture:
    hidden, vocabulary = text.integer("hidden_size"), text.integer("vocab_size")
    tied = outer.flag(
        "tie_word_embeddings", text.flag("tie_word_embeddings", model_type.removesuffix("_text") in _TIED_BY_DEFAULT)
    )
    shape = blocks.read_heads(text) if model_type not in ("falcon", "nemotron-nas") else _odd_heads(text)
    positions = text.integer("max_position_embeddings", "model_max_length", default=2048)
    return Architecture(
        name=outer.text("_name_or_path") or model_type,
        model_type=model_type,
        hidden_size=hidden,
        vocabulary=vocabulary,
        max_positions=positions,
        longest_context=_longest_context(text, positions),
        attention_heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.dim,
        rotary_dim=_rotary_dim(text, shape.dim, model_type),
        tied_embeddings=tied,
        checkpoint_dtype=_dtype(outer) or _dtype(text),
        layers=layers,
        embedding=(
            *_embedding(vocabulary, hidden, positions, model_type),
            *gemma.per_layer_embedding(text, len(layers)),
            *(compressed.buffers(text, hidden, positions) if model_type == "deepseek_v4" else ()),
        ),
        head=_head(vocabulary, hidden, tied, model_type),
        **_vision(outer, hidden, model_type),
    )


QWEN_LARGEST_IMAGE = 16384
"""Tokens of the largest image that Qwen's processors make by default: vLLM's encoder budget for them."""


def _vision(outer: ConfigReader, hidden: int, model_type: str) -> dict[str, Any]:
    """Towers for pictures and sound, and what is not known of them."""
    section, notes = outer.section("vision_config"), []
    named = outer.text("model_type") or model_type
    found: tuple[Parameter, ...] = ()
    if section is not None:
        tower = vision.TOWERS.get(named)
        found = tuple(tower(section, hidden, outer) if tower else vision.usual_tower(section, hidden))
        if tower is None and found:
            notes.append(f"the vision tower of {named} is not known: its weights are estimated by its sizes")
        elif tower is None:
            notes.append(f"the vision tower of {named} is not known: its weights are not counted")
    sound = outer.section("audio_config")
    if sound is not None:
        hears = audio.TOWERS.get(named)
        found += tuple(hears(sound, hidden)) if hears else ()
        if hears is None:
            notes.append(f"the audio tower of {named} is not known: its weights are not counted")
    profiled = _profiled_image(section, named) if section is not None else {}
    return {"vision": found, "embeds_apart": bool(found), "notes": tuple(notes), **profiled}


def _profiled_image(section: ConfigReader, model_type: str) -> dict[str, int]:
    """What a vision tower works on while vLLM profiles it."""
    width = section.optional_integer("intermediate_size") or 0
    side = section.optional_integer("spatial_merge_size") or section.optional_integer("pooling_kernel_size") or 2
    largest = QWEN_LARGEST_IMAGE if model_type.startswith("qwen") else 0
    return {"image_token_bytes": 2 * side * side * width * 2, "largest_image_tokens": largest}


def _odd_heads(text: ConfigReader) -> blocks.Heads:
    hidden, heads = text.integer("hidden_size"), text.integer("num_attention_heads")
    kv_heads = 1 if text.flag("multi_query", False) else heads
    return blocks.Heads(hidden, heads, kv_heads, max(1, hidden // heads))


def _dtype(reader: ConfigReader) -> str | None:
    return reader.text("torch_dtype", "dtype")


def _rotary_dim(text: ConfigReader, head_dim: int, model_type: str) -> int:
    """Elements of a head that carry rotary positions: the width of vLLM's cos/sin cache; 0 where there is none."""
    if model_type == "opt" or text.text("position_embedding_type") == "nope":
        return 0
    rope = text.optional_integer("qk_rope_head_dim")
    if rope is not None:
        return rope
    rotary = text.optional_integer("rotary_dim")
    if rotary is not None:
        return rotary
    factor = text.config.get("partial_rotary_factor")
    return int(head_dim * factor) if isinstance(factor, float) and 0 < factor < 1 else head_dim


def _longest_context(text: ConfigReader, positions: int) -> int:
    """What vLLM takes as the model's limit (config/model.py, _get_and_verify_max_len): the positions, times the factor
    of a rope scaling that extends them."""
    scaling = text.section("rope_scaling") or text.section("rope_parameters")
    if scaling is None:
        return positions
    kind, factor = scaling.text("rope_type", "type"), scaling.config.get("factor")
    if kind in (None, "default", "su", "longrope", "llama3", "mrope") or not isinstance(factor, int | float):
        return positions
    original = scaling.integer("original_max_position_embeddings", default=positions) if kind == "yarn" else positions
    return max(positions, int(original * factor))


def _embedding(vocabulary: int, hidden: int, positions: int, model_type: str) -> tuple[Parameter, ...]:
    table = Parameter("embed_tokens.weight", vocabulary, hidden, "vocabulary")
    if model_type == "opt":  # learned positions, two of them reserved
        return (table, Parameter("embed_positions.weight", positions + 2, hidden))
    return (table,)


def _head(vocabulary: int, hidden: int, tied: bool, model_type: str) -> tuple[Parameter, ...]:
    parameters = [blocks.vector("norm.weight", hidden)]
    if model_type in ("opt", "falcon"):
        parameters.append(blocks.vector("norm.bias", hidden))
    if not tied:
        parameters.append(Parameter("lm_head.weight", vocabulary, hidden, "vocabulary"))
    return tuple(parameters)


def _unknown(model_type: str | None, lacking: str | None = None) -> Problem:
    if model_type is None:
        return Problem(
            "the model's config lacks model_type",
            key="model.config.model_type",
            remedy="add it to config.json, or give the architecture under model.config",
            cause="unsupported_architecture",
        )
    hint = suggest_or_list(model_type, sorted(FAMILIES), "known are")
    why = "it cannot say which weights and caches it has" if lacking is None else lacking
    return Problem(
        f'the planner does not know the model type "{model_type}": {why}',
        key="model.config.model_type",
        value=model_type,
        remedy=f"if it is built like a known one, set that model_type under model.config ({hint}); a folder with "
        "safetensors files is planned from their headers (model.path=DIR)",
        cause="unsupported_architecture",
    )


def _unique(problems: list[Problem]) -> list[Problem]:
    """Each field once, although several blocks may have asked for it."""
    return list({(problem.key, problem.message): problem for problem in problems}.values())
