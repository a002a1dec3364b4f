"""Parameter counts of the 174 configurations."""

from __future__ import annotations

import pytest

from nexus_orch.plan import choose_scheme, count_parameters, parse_architecture
from nexus_orch.plan.model.architecture import AttentionCache
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.plan.release.kv_cache import token_bytes
from nexus_orch.plan.release.weights import WeightLayout
from tests.plan.cases import config_of, models

NAMES = sorted(models())

INDEXERS = {"deepseek-ai/DeepSeek-V3.2", "zai-org/GLM-5"}
"""Beside the latent vectors these keep an indexer's keys, which the expected figure leaves out."""


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_checkpoint(name: str) -> None:
    expected = models()[name]["expected"]
    counts = count_parameters(parse_architecture(config_of(name)))
    assert counts.total == expected["params_total"]
    assert counts.active == expected.get("params_active", counts.total)
    assert counts.vision == expected.get("vision_params", 0)
    assert sum(counts.layers) < counts.total
    if "embedding_params" in expected:
        assert counts.embedding - _learned_positions(name) == expected["embedding_params"]


def _learned_positions(name: str) -> int:
    """OPT's position table is counted with its embeddings."""
    config = config_of(name)
    is_opt = config["model_type"] == "opt"
    return (config["max_position_embeddings"] + 2) * config["hidden_size"] if is_opt else 0


@pytest.mark.parametrize("name", NAMES)
def test_weight_bytes_are_those_of_the_checkpoint(name: str) -> None:
    """MXFP4 alone is larger in memory than on disk: expert widths are padded."""
    config, expected = config_of(name), models()[name]["expected"]
    scheme = choose_scheme(config)
    assert isinstance(scheme, Scheme)
    architecture = parse_architecture(config)
    stage = WeightLayout(architecture, scheme, 2, 1, 1, whole_segments=False).stages[0]
    rotary = architecture.max_positions * architecture.rotary_dim * 2
    stored = stage.total_bytes - rotary
    if scheme.method == "mxfp4":
        assert 1.04 < stored / expected["weight_bytes"] < 1.08
    else:
        # What the allocator adds to the plain sizes lies below 3 % even for the smallest models.
        assert 0.999 < stored / expected["weight_bytes"] < 1.03
        plain = sum(map(sum, stage.parameter_bytes))
        assert plain <= expected["weight_bytes"] * 1.001


@pytest.mark.parametrize("name", NAMES)
def test_quantized_matrices_are_counted(name: str) -> None:
    expected = models()[name]["expected"].get("quant")
    if expected is None or config_of(name)["model_type"] == "gpt_oss":  # only its experts are quantized
        return
    assert count_parameters(parse_architecture(config_of(name))).linear == expected["quantised_params"]


@pytest.mark.parametrize("name", NAMES)
def test_kv_bytes_for_each_token(name: str) -> None:
    architecture = parse_architecture(config_of(name))
    caches = [layer.cache for layer in architecture.layers if isinstance(layer.cache, AttentionCache)]
    total = sum(token_bytes(cache, 1, 2) - cache.index_bytes for cache in caches)
    assert total == models()[name]["expected"]["kv_bytes_per_token_bf16"]
    assert any(cache.index_bytes for cache in caches) == (name in INDEXERS)


def test_text_models_nested_in_a_multimodal_config_are_found() -> None:
    config = config_of("google/gemma-3-4b-it")
    inner = parse_architecture({**config["text_config"], "tie_word_embeddings": True})
    assert count_parameters(inner).total == count_parameters(parse_architecture(config)).total - 419_816_304


def test_a_vision_tower_that_is_not_known_is_said() -> None:
    config = {**config_of("meta-llama/Llama-3.1-8B-Instruct"), "vision_config": {"hidden_size": 1024}}
    assert "not counted" in parse_architecture(config).notes[0]


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        (None, 32768),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"type": "linear", "factor": 2}, 65536),
        ({"rope_type": "llama3", "factor": 8.0}, 32768),
    ],
)
def test_rope_scaling_extends_the_context(scaling: dict[str, object] | None, longest: int) -> None:
    config = {**config_of("Qwen/Qwen2.5-7B-Instruct"), "rope_scaling": scaling}
    assert parse_architecture(config).longest_context == longest


def test_what_a_published_config_leaves_to_its_class_is_filled_in() -> None:
    """google/gemma-3-4b-it names neither its heads nor its vocabulary."""
    config = config_of("google/gemma-3-4b-it")
    left_out = ("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "layer_types")
    text = {key: value for key, value in config["text_config"].items() if key not in left_out}
    assert count_parameters(parse_architecture({**config, "text_config": text})) == count_parameters(
        parse_architecture(config)
    )


def test_qwen2_moe_has_a_shared_expert() -> None:
    """Qwen1.5-MoE-A2.7B: 14.3 billion parameters, 2.7 billion of them active."""
    counts = count_parameters(
        parse_architecture(
            {
                "model_type": "qwen2_moe",
                "hidden_size": 2048,
                "intermediate_size": 5632,
                "moe_intermediate_size": 1408,
                "shared_expert_intermediate_size": 5632,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "num_hidden_layers": 24,
                "num_experts": 60,
                "num_experts_per_tok": 4,
                "vocab_size": 151936,
                "max_position_embeddings": 8192,
                "tie_word_embeddings": False,
            }
        )
    )
    assert counts.total == pytest.approx(14.3e9, rel=0.005)
    assert counts.active == pytest.approx(2.7e9, rel=0.01)
