"""Families met in the field, by counts that were published, and model types that no family describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.plan import choose_scheme, count_parameters, parse_architecture
from nexus_orch.plan.model.architecture import Architecture, AttentionCache
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.plan.release.weights import WeightLayout
from nexus_orch.types import GIB
from tests.plan.cases import config_of, make_gpu, plan_of

EXAONE = {
    "architectures": ["Exaone4ForCausalLM"],
    "model_type": "exaone4",
    "hidden_size": 5120,
    "intermediate_size": 27392,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 102400,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "sliding_window_pattern": "LLLG",
    "tie_word_embeddings": False,
}
QWEN2_VL = {
    "model_type": "qwen2_vl",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
    "vision_config": {
        "depth": 32,
        "embed_dim": 1280,
        "mlp_ratio": 4,
        "num_heads": 16,
        "in_chans": 3,
        "hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
GEMMA_E4B = {
    "model_type": "gemma4_text",
    "vocab_size": 262144,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 42,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_kv_shared_layers": 18,
    "hidden_size_per_layer_input": 256,
    "vocab_size_per_layer_input": 262144,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}


_FILE = Path(__file__).parents[2] / "data" / "model_types.jsonl"
TYPES = {entry["model_type"]: entry for entry in map(json.loads, _FILE.read_text(encoding="utf-8").splitlines())}
"""The configuration that each class of transformers 5.19.0 has by default, and the parameters of its model."""


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_model_type_has_the_parameters_that_transformers_gives_it(name: str) -> None:
    """Exactly where a family describes all of it, within 1 % where a part is estimated, which a note then says."""
    architecture = parse_architecture(TYPES[name]["config"])
    near = 0.01 if architecture.notes else 0.0002
    assert count_parameters(architecture).total == pytest.approx(TYPES[name]["parameters"], rel=near)
    assert architecture.is_guess == any("does not know the model type" in note for note in architecture.notes)


def _weights_gib(config: dict[str, Any], *, whole_segments: bool = False) -> float:
    scheme = choose_scheme(config)
    assert isinstance(scheme, Scheme)
    architecture = parse_architecture(config)
    return WeightLayout(architecture, scheme, 2, 1, 1, whole_segments=whole_segments).stages[0].total_bytes / GIB


def test_exaone4_is_what_a_launch_loaded() -> None:
    """vLLM 0.11.0 printed 30.9891 GiB for EXAONE-4.0-32B-FP8."""
    stored = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}
    assert _weights_gib({**EXAONE, "quantization_config": stored}) == pytest.approx(30.9891, rel=0.001)
    windows = [getattr(layer.cache, "window", None) for layer in parse_architecture(EXAONE).layers]
    assert windows[:4] == [4096, 4096, 4096, None]


def test_qwen2_vl_is_what_a_launch_loaded() -> None:
    """vLLM 0.6.6 printed 15.5083 GiB for a fine-tune of Qwen2-VL-7B."""
    assert _weights_gib(QWEN2_VL) == pytest.approx(15.5083, rel=0.001)


def test_gemma_with_embeddings_for_each_layer() -> None:
    """Google names 4.5 billion effective parameters, 8 with the embeddings; towers come on top."""
    architecture = parse_architecture(GEMMA_E4B)
    total = count_parameters(architecture).total
    tables = sum(p.elements for p in architecture.embedding if p.split == "vocabulary" and "per_layer" in p.name)
    assert total == pytest.approx(7.5e9, rel=0.02)
    assert total - tables - 262144 * 2560 == pytest.approx(4.0e9, rel=0.03)
    without_cache = [layer for layer in architecture.layers if layer.cache is None]
    assert len(without_cache) == 18
    assert not any("qkv_proj" in p.name or "k_norm" in p.name for p in without_cache[0].parameters)


def test_gemma_that_sees_and_hears_is_what_a_launch_loaded() -> None:
    """vLLM 0.28.0 printed 9.81 GiB for gemma-4-E4B-it-qat-w4a16-ct; transformers makes 7,941,100,832 parameters."""
    sees = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "head_dim": 64, "patch_size": 16}
    config = {
        "model_type": "gemma4",
        "text_config": GEMMA_E4B,
        "vision_config": {**sees, "position_embedding_size": 10240},
        "audio_config": {"hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8},
    }
    assert count_parameters(parse_architecture(config)).total == 7_941_100_832
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
    quantization = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*vision_tower.*", "re:.*audio_tower.*", "re:.*per_layer.*"],
    }
    found = _weights_gib({**config, "quantization_config": quantization}, whole_segments=True)
    assert found == pytest.approx(9.81, rel=0.007)


def test_gemma_3n_counts_its_streams() -> None:
    """gemma-3n-E4B: 6.87 billion parameters of the language model, 7.85 with its towers (the hub's count)."""
    config = {
        "model_type": "gemma3n_text",
        "hidden_size": 2048,
        "intermediate_size": [16384] * 35,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
        "hidden_size_per_layer_input": 256,
        "num_kv_shared_layers": 15,
        "altup_num_inputs": 4,
        "laurel_rank": 64,
        "sliding_window": 512,
        "sliding_window_pattern": 5,
        "max_position_embeddings": 32768,
    }
    assert count_parameters(parse_architecture(config)).total == pytest.approx(6.87e9, rel=0.01)


@pytest.mark.parametrize(
    ("outer", "inner"), [("kimi_k25", "kimi_k2"), ("brand_new_vl", "qwen3"), ("mistral9", "ministral3")]
)
def test_a_multimodal_model_is_known_by_its_language_model(outer: str, inner: str) -> None:
    text = dict(config_of("moonshotai/Kimi-K2-Instruct" if inner == "kimi_k2" else "Qwen/Qwen3-8B"), model_type=inner)
    whole = parse_architecture({"model_type": outer, "text_config": text})
    assert not whole.is_guess
    assert count_parameters(whole).layers == count_parameters(parse_architecture(text)).layers


def test_a_tower_of_usual_sizes_is_estimated_and_told() -> None:
    tower = {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304}
    architecture = parse_architecture({**config_of("Qwen/Qwen3-8B"), "model_type": "qwen3", "vision_config": tower})
    assert count_parameters(architecture).vision == pytest.approx(0.43e9, rel=0.1)
    assert any("estimated by its sizes" in note for note in architecture.notes)


def _as_unknown(name: str, **changes: Any) -> Architecture:
    return parse_architecture({**config_of(name), "model_type": "brand_new", **changes})


@pytest.mark.parametrize(
    "name",
    [
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-30B-A3B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "deepseek-ai/DeepSeek-V3",
        "zai-org/GLM-4.5-Air",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "openai/gpt-oss-20b",
        "MiniMaxAI/MiniMax-M2",
        "google/gemma-2-9b-it",
        "allenai/OLMo-2-1124-7B-Instruct",
        "moonshotai/Kimi-K2-Instruct",
    ],
)
def test_an_unknown_type_with_usual_keys_is_near_what_its_family_tells(name: str) -> None:
    known, guess = parse_architecture(config_of(name)), _as_unknown(name)
    assert guess.is_guess
    assert not known.is_guess
    assert count_parameters(guess).total == pytest.approx(count_parameters(known).total, rel=0.005)
    assert [layer.cache for layer in guess.layers] == [layer.cache for layer in known.layers]


def test_other_names_of_the_usual_keys_are_read() -> None:
    config = {"model_type": "new", "n_embd": 2048, "n_layer": 24, "n_head": 16, "n_inner": 8192, "vocab_size": 50000}
    architecture = parse_architecture({**config, "n_positions": 4096, "activation_function": "gelu_new"})
    assert architecture.max_positions == 4096
    assert count_parameters(architecture).total == pytest.approx(1.4e9, rel=0.05)


def test_an_unknown_type_is_planned_with_its_doubt_and_a_wider_range() -> None:
    config = {**config_of("Qwen/Qwen3-8B"), "model_type": "brand_new"}
    guess, known = plan_of(config, make_gpu()), plan_of("Qwen/Qwen3-8B", make_gpu())
    assert guess.fits
    assert any('does not know the model type "brand_new"' in note for note in guess.notes)

    def spread(plan: Any) -> float:
        return float(plan.prediction.kv_cache_tokens_high - plan.prediction.kv_cache_tokens_low)

    assert spread(guess) > spread(known)


def test_a_misspelt_type_is_planned_and_asked_about() -> None:
    notes = parse_architecture({**config_of("Qwen/Qwen2.5-7B-Instruct"), "model_type": "qwenn2"}).notes
    assert "did you mean model.config.model_type=qwen2" in notes[0]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"layer_types": ["full_attention", "gated_delta"]}, "layers of the kind gated_delta"),
        ({"mamba_d_state": 128}, "some of its layers keep a state"),
        ({"num_hidden_layers": None}, "lacks num_hidden_layers"),
    ],
)
def test_what_the_planner_cannot_tell_is_named_as_its_limit(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        _as_unknown("Qwen/Qwen3-8B", **changes)
    (problem,) = caught.value.problems
    assert problem.message.startswith('the planner does not know the model type "brand_new"')
    assert problem.cause == "unsupported_architecture"


def test_a_model_that_thinks_and_talks_is_counted_by_what_thinks() -> None:
    text = {**config_of("Qwen/Qwen3-30B-A3B"), "model_type": "qwen3_omni_moe_text"}
    whole = parse_architecture(
        {"model_type": "qwen3_omni_moe", "thinker_config": {"text_config": text}, "talker_config": {}}
    )
    assert count_parameters(whole) == count_parameters(parse_architecture(config_of("Qwen/Qwen3-30B-A3B")))
    assert not whole.is_guess


def test_nemotron_is_read_as_transformers_5_writes_it() -> None:
    config = dict(config_of("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"))
    words = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    listed = [words[letter] for letter in config.pop("hybrid_override_pattern")]
    del config["num_hidden_layers"]
    assert count_parameters(parse_architecture({**config, "layers_block_type": listed})) == count_parameters(
        parse_architecture(config_of("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"))
    )


def test_short_convolutions_keep_a_state() -> None:
    """LFM2-1.2B: 1,170,340,608 parameters, and attention in 6 of 16 layers."""
    attends = (2, 5, 8, 10, 12, 14)
    config = {
        "model_type": "lfm2",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 65536,
        "block_ff_dim": 12288,
        "conv_L_cache": 3,
        "max_position_embeddings": 128000,
        "full_attn_idxs": list(attends),
    }
    architecture = parse_architecture(config)
    assert count_parameters(architecture).total == 1_170_340_608
    assert [i for i, layer in enumerate(architecture.layers) if isinstance(layer.cache, AttentionCache)] == list(
        attends
    )


def test_kimi_linear_is_planned() -> None:
    """Kimi-Linear-48B-A3B: 49 billion parameters, latent attention in every fourth layer and the last."""
    full = [4, 8, 12, 16, 20, 24, 27]
    config = {
        "model_type": "kimi_linear",
        "hidden_size": 2304,
        "num_hidden_layers": 27,
        "vocab_size": 163840,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 72,
        "intermediate_size": 9216,
        "moe_intermediate_size": 1024,
        "num_experts": 256,
        "num_experts_per_token": 8,
        "num_shared_experts": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 512,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "model_max_length": 1048576,
        "tie_word_embeddings": False,
        "linear_attn_config": {
            "kda_layers": [layer for layer in range(1, 28) if layer not in full],
            "full_attn_layers": full,
            "num_heads": 32,
            "head_dim": 128,
            "short_conv_kernel_size": 4,
        },
    }
    found = parse_architecture(config)
    assert found.is_hybrid and found.is_mla and found.max_positions == 1048576
    assert sum(isinstance(layer.cache, AttentionCache) for layer in found.layers) == 7
    assert count_parameters(found).total == pytest.approx(49.1e9, rel=0.005)
