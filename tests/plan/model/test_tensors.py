"""Architectures that no family describes, made of tensor headers: measured against those that a family describes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.model.architecture import AttentionCache
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.types import GIB, CheckpointFacts, Facts, ModelFacts, Plan, TensorHeader
from tests.plan.cases import LOADERS, config_of, make_facts, make_gpu, make_spec

Q7, MOE, MLA = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V2-Lite"
CARD = make_gpu(total_bytes=int(79 * GIB), free_bytes=int(78.5 * GIB))
_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "F8_E4M3": 1}


def _header(name: str, *shape: int, dtype: str = "BF16") -> TensorHeader:
    size = _BYTES[dtype]
    for side in shape:
        size *= side
    return TensorHeader(name, dtype, shape, size)


def _matrices(config: dict[str, Any], layer: int) -> Iterator[tuple[str, int, int]]:
    """Name, outputs and inputs of the matrices of a layer, as checkpoints on the hub have them."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    dim = config.get("head_dim") or hidden // heads
    kv, at = config["num_key_value_heads"] * dim, f"model.layers.{layer}"
    for name, rows in (("q", heads * dim), ("k", kv), ("v", kv)):
        yield f"{at}.self_attn.{name}_proj", rows, hidden
    yield f"{at}.self_attn.o_proj", hidden, heads * dim
    width = config.get("moe_intermediate_size") or config["intermediate_size"]
    names = [f"{at}.mlp.experts.{expert}" for expert in range(config.get("num_experts", 0))] or [f"{at}.mlp"]
    for name in names:
        yield f"{name}.gate_proj", width, hidden
        yield f"{name}.up_proj", width, hidden
        yield f"{name}.down_proj", hidden, width
    if "num_experts" in config:
        yield f"{at}.mlp.gate", config["num_experts"], hidden


def _tensors(config: dict[str, Any], dtype: str = "BF16") -> list[TensorHeader]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    found = [_header("model.embed_tokens.weight", vocabulary, hidden), _header("model.norm.weight", hidden)]
    found.append(_header("lm_head.weight", vocabulary, hidden))
    for layer in range(config["num_hidden_layers"]):
        found += [_header(f"{n}.weight", rows, columns, dtype=dtype) for n, rows, columns in _matrices(config, layer)]
        found += [_header(f"model.layers.{layer}.{name}_layernorm.weight", hidden) for name in ("input", "post")]
    return found


def _facts(config: dict[str, Any], tensors: list[TensorHeader], *cards: Any) -> Facts:
    known = make_facts(Q7, *(cards or (CARD,)), ram_gib=256)
    total = sum(tensor.bytes for tensor in tensors)
    checkpoint = CheckpointFacts("safetensors", ("model.safetensors",), total, tuple(tensors))
    return replace(known, model=ModelFacts("new", "/models/new", config, "config.json", checkpoint, is_local=True))


def _guessed(name: str, *cards: Any, **changes: Any) -> tuple[Plan, Plan]:
    """The plan of a model under a type that nobody knows, and of the same one under its own."""
    config = {**config_of(name), **changes}
    facts = _facts({**config, "model_type": "brand_new"}, _tensors(config), *cards)
    ours = make_facts(name, *(cards or (CARD,)), ram_gib=256)
    return make_plan(make_spec(), facts, LOADERS), make_plan(make_spec(), ours, LOADERS)


@pytest.mark.parametrize("cards", [1, 2])
@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B-Instruct", MOE])
def test_a_guess_is_near_what_a_family_tells(name: str, cards: int) -> None:
    guess, known = _guessed(name, *[CARD] * cards)
    assert guess.fits
    assert known.fits
    ours, theirs = guess.per_gpu[0], known.per_gpu[0]
    assert ours.weights_bytes == pytest.approx(theirs.weights_bytes, rel=0.003)
    assert ours.activation_bytes == pytest.approx(theirs.activation_bytes, rel=0.02)
    per_token = guess.kv_cache_tokens / ours.kv_cache_bytes
    assert per_token == pytest.approx(known.kv_cache_tokens / theirs.kv_cache_bytes, rel=0.01)


def test_a_guess_tells_its_doubt_and_has_a_wider_range() -> None:
    guess, known = _guessed("meta-llama/Llama-3.1-8B-Instruct")

    def spread(plan: Plan) -> float:
        prediction = plan.prediction
        assert prediction.kv_cache_tokens_low is not None
        assert prediction.kv_cache_tokens_high is not None
        return prediction.kv_cache_tokens_high - prediction.kv_cache_tokens_low

    assert spread(guess) > 2 * spread(known)
    assert any('does not know the model type "brand_new"' in note for note in guess.notes)
    assert not any("does not know" in note for note in known.notes)


def test_weights_are_those_of_the_tensors_whatever_their_type() -> None:
    config = dict(config_of("meta-llama/Llama-3.1-8B-Instruct"))
    facts = _facts({**config, "model_type": "brand_new"}, _tensors(config, "F8_E4M3"))
    assert facts.model.checkpoint is not None
    plan = make_plan(make_spec(), facts, LOADERS)
    assert plan.per_gpu[0].weights_bytes == pytest.approx(facts.model.checkpoint.total_bytes, rel=0.01)
    assert plan.per_gpu[0].weights_bytes < 10 * GIB


def test_packed_weights_are_read_too() -> None:
    """AWQ keeps eight weights in an int32; keys are as many as the scales have columns."""
    tensors = [
        _header("model.embed_tokens.weight", 1000, 512),
        *(
            _header(f"model.layers.0.self_attn.{name}_proj.qweight", 512, columns // 8, dtype="I32")
            for name, columns in (("q", 512), ("k", 128), ("v", 128))
        ),
        _header("model.layers.0.self_attn.k_proj.scales", 4, 128, dtype="F16"),
    ]
    architecture = choose_architecture(_facts({"num_attention_heads": 8}, tensors).model)
    assert architecture.layers[0].cache == AttentionCache(2, 64, 64)
    assert (architecture.kv_heads, architecture.head_dim) == (2, 64)
    layer_bytes = sum(tensor.bytes for tensor in tensors[1:])
    assert architecture.layers[0].elements * 2 == layer_bytes


def test_a_latent_cache_is_recognized() -> None:
    config = {"model_type": "brand_new", "num_attention_heads": 16, "max_position_embeddings": 4096}
    tensors = [
        _header("model.embed_tokens.weight", 1000, 2048),
        _header("model.layers.0.self_attn.q_proj.weight", 3072, 2048),
        _header("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", 576, 2048),
        _header("model.layers.0.self_attn.kv_b_proj.weight", 4096, 512),
    ]
    architecture = choose_architecture(_facts(config, tensors).model)
    assert architecture.is_mla
    assert architecture.tied_embeddings


def test_layers_for_later_tokens_and_the_vision_tower_are_told_apart() -> None:
    config = {**config_of("meta-llama/Llama-3.1-8B-Instruct"), "num_hidden_layers": 2}
    tensors = _tensors({**config, "num_hidden_layers": 3})
    tensors += [_header(f"visual.blocks.{index}.attn.qkv.weight", 3840, 1280) for index in range(4)]
    architecture = choose_architecture(_facts({**config, "model_type": "brand_new"}, tensors).model)
    assert len(architecture.layers) == 2
    assert sum(parameter.elements for parameter in architecture.vision) == 4 * 3840 * 1280


def test_a_fused_projection_needs_the_heads_of_the_config() -> None:
    tensors = [
        _header("transformer.wte.weight", 1000, 512),
        _header("transformer.h.0.attn.c_attn.weight", 512, 1536),
    ]
    config = {"n_head": 8, "n_positions": 1024}
    assert choose_architecture(_facts(config, tensors).model).layers[0].cache == AttentionCache(8, 64, 64)


def test_a_state_of_unknown_size_is_told() -> None:
    config = dict(config_of("meta-llama/Llama-3.1-8B-Instruct"))
    tensors = [t for t in _tensors(config) if ".layers.0.self_attn" not in t.name]
    tensors.append(_header("model.layers.0.mixer.in_proj.weight", 4096, 4096))
    architecture = choose_architecture(_facts({**config, "model_type": "brand_new"}, tensors).model)
    assert any("1 of 32 layers have a state" in note for note in architecture.notes)


@pytest.mark.parametrize(
    ("config", "tensors", "word"),
    [
        ({"model_type": "new"}, [_header("strange", 8, 8)], "an embedding matrix .* numbered layers"),
        (
            {},
            [_header("model.embed_tokens.weight", 8, 8), _header("model.layers.0.x.weight", 8)],
            "num_attention_heads",
        ),
        (
            {"num_attention_heads": 2},
            [_header("model.embed_tokens.weight", 8, 8), _header("model.layers.0.mixer.weight", 8, 8)],
            "projections of keys and values",
        ),
    ],
)
def test_what_is_missing_is_listed(config: dict[str, Any], tensors: list[TensorHeader], word: str) -> None:
    with pytest.raises(ConfigError, match=f"lacks.*{word}") as caught:
        choose_architecture(_facts(config, tensors).model)
    assert caught.value.problems[0].cause == "unsupported_architecture"


def test_without_headers_an_unknown_type_is_an_error_that_points_to_them() -> None:
    with pytest.raises(ConfigError, match="planned from their headers"):
        choose_architecture(ModelFacts("new", None, {"model_type": "brand_new"}, "profile"))


def test_a_known_type_is_never_guessed() -> None:
    config = dict(config_of(Q7))
    assert not choose_architecture(_facts(config, _tensors(config)).model).is_guess


def _gguf(*files: str, version: str = "0.19.1", gib: float = 4.4) -> Plan:
    known = make_facts(Q7, CARD, version=version)
    checkpoint = CheckpointFacts("gguf", files, int(gib * GIB))
    return make_plan(make_spec(), replace(known, model=replace(known.model, checkpoint=checkpoint)), LOADERS)


def test_gguf_is_planned_from_the_bytes_of_its_tensors() -> None:
    plan = _gguf("qwen-q4_k_m.gguf")
    assert plan.fits
    assert plan.per_gpu[0].weights_bytes / GIB == pytest.approx(4.4, abs=0.1)
    assert any("GGUF" in note for note in plan.notes)
    assert not any("plugin" in note for note in plan.notes)


def test_newer_releases_need_a_plugin_for_gguf_and_several_files_are_doubtful() -> None:
    assert any("only with a plugin" in note for note in _gguf("a.gguf", version="0.32.0").notes)
    assert any("2 GGUF files" in note for note in _gguf("a-q4.gguf", "a-q8.gguf").notes)
    parts = ("a-00001-of-00002.gguf", "a-00002-of-00002.gguf")
    assert not any("2 GGUF files" in note for note in _gguf(*parts).notes)
