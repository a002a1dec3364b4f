"""From a config.json to an `Architecture`: one function for each family of decoders, chosen by model_type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.model.architecture import Architecture, Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks, dense, hybrid, sparse, vision
from nexus_orch.suggest import suggest_or_list

FAMILIES: Mapping[str, Callable[[ConfigReader], tuple[Layer, ...]]] = {
    "llama": dense.llama,
    "mistral": dense.llama,
    "mistral3": dense.llama,
    "ministral": dense.llama,
    "granite": dense.llama,
    "smollm3": dense.llama,
    "internlm2": dense.llama,
    "internlm3": dense.llama,
    "phi3": dense.llama,
    "qwen2": dense.qwen2,
    "qwen2_5_vl": dense.qwen2,
    "qwen3": dense.qwen3,
    "qwen3_vl": dense.qwen3,
    "gemma2": dense.gemma2,
    "gemma3": dense.gemma3,
    "gemma3_text": dense.gemma3,
    "glm": dense.glm,
    "glm4": dense.glm4,
    "olmo2": dense.olmo2,
    "cohere": dense.cohere,
    "nemotron-nas": dense.nemotron_nas,
    "opt": dense.opt,
    "falcon": dense.falcon,
    "mixtral": sparse.mixtral,
    "qwen2_moe": sparse.qwen2_moe,
    "qwen3_moe": sparse.qwen3_moe,
    "qwen3_vl_moe": sparse.qwen3_moe,
    "gpt_oss": sparse.gpt_oss,
    "minimax_m2": sparse.minimax_m2,
    "glm4_moe": sparse.glm4_moe,
    "deepseek_v2": sparse.deepseek,
    "deepseek_v3": sparse.deepseek,
    "deepseek_v32": sparse.deepseek,
    "kimi_k2": sparse.deepseek,
    "glm_moe_dsa": sparse.deepseek,
    "llama4": sparse.llama4,
    "gemma4": sparse.gemma4,
    "qwen3_next": hybrid.qwen3_next,
    "qwen3_5": hybrid.qwen3_next,
    "qwen3_5_moe": hybrid.qwen3_next,
    "jamba": hybrid.jamba,
    "nemotron_h": hybrid.nemotron_h,
    "granitemoehybrid": hybrid.granite_hybrid,
    "minimax_text_01": hybrid.minimax_text,
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

_TIED_BY_DEFAULT = frozenset({"gemma2", "gemma3", "gemma3_text", "gemma4", "cohere", "opt", "falcon"})
"""Families whose configuration class in transformers ties the embeddings unless told otherwise."""


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether a family describes this model type."""
    nested = config.get("text_config")
    model_type = config.get("model_type") or (nested.get("model_type") if isinstance(nested, Mapping) else None)
    return isinstance(model_type, str) and _find_family(model_type) is not None


def _find_family(model_type: str) -> Callable[[ConfigReader], tuple[Layer, ...]] | None:
    return FAMILIES.get(model_type) or FAMILIES.get(model_type.removesuffix("_text"))


def parse_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a config.json describes, nested `text_config` included.

    Raises ConfigError with every missing and every wrong field, and for a model type that the planner does not know.
    """
    if not isinstance(config, Mapping) or not config:
        raise ConfigError(Problem("the model's config is empty", key="model.config", remedy="give a config.json"))
    outer = ConfigReader(config)
    text = outer.section("text_config") or outer
    model_type = outer.text("model_type") or text.text("model_type")
    defaults = _CLASS_DEFAULTS.get(model_type or "")
    if defaults is not None and text is not outer:
        text = ConfigReader({**defaults, **text.config}, text.prefix, text.problems)
    family = _find_family(model_type or "")
    if model_type is None or family is None:
        raise ConfigError(_unknown(model_type), *outer.problems)
    layers = family(text)
    architecture = _assemble(outer, text, model_type, layers)
    if outer.problems:
        raise ConfigError(*_unique(outer.problems))
    return architecture


def _assemble(outer: ConfigReader, text: ConfigReader, model_type: str, layers: tuple[Layer, ...]) -> Architecture:
    hidden, vocabulary = text.integer("hidden_size"), text.integer("vocab_size")
    tied = outer.flag("tie_word_embeddings", text.flag("tie_word_embeddings", model_type in _TIED_BY_DEFAULT))
    shape = blocks.read_heads(text) if model_type not in ("falcon", "nemotron-nas") else _odd_heads(text)
    positions = text.integer("max_position_embeddings", default=2048)
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
        embedding=_embedding(vocabulary, hidden, positions, model_type),
        head=_head(vocabulary, hidden, tied, model_type),
        **_vision(outer, hidden, model_type),
    )


def _vision(outer: ConfigReader, hidden: int, model_type: str) -> dict[str, Any]:
    section = outer.section("vision_config")
    if section is None:
        return {}
    tower = vision.TOWERS.get(model_type)
    if tower is None:
        return {"notes": (f"the vision tower of {model_type} is not known: its weights are not counted",)}
    return {"vision": tuple(tower(section, hidden, outer))}


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


def _unknown(model_type: str | None) -> Problem:
    if model_type is None:
        return Problem(
            "the model's config lacks model_type",
            key="model.config.model_type",
            remedy="add it to config.json, or give the architecture under model.config",
            cause="unsupported_architecture",
        )
    hint = suggest_or_list(model_type, sorted(FAMILIES), "known are")
    return Problem(
        f'the planner does not know the model type "{model_type}": it cannot say which weights and caches it has',
        key="model.config.model_type",
        value=model_type,
        remedy=f"if it is built like a known one, set that model_type under model.config ({hint}); a folder with "
        "safetensors files is planned from their headers (model.path=DIR)",
        cause="unsupported_architecture",
    )


def _unique(problems: list[Problem]) -> list[Problem]:
    """Each field once, although several blocks may have asked for it."""
    return list({(problem.key, problem.message): problem for problem in problems}.values())
