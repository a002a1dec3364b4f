"""Speculative decoding is counted: the draft's weights, its keys and values, and what is not known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.asked.speculation import Speculation
from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, Facts, ModelFacts, Plan
from tests.plan.cases import LOADERS, config_of, make_facts, make_gpu, make_spec, plan_of

H100 = make_gpu(name="H100 SXM", total_bytes=int(79.2 * GIB), free_bytes=int(78.9 * GIB), compute_capability=(9, 0))
QWEN = "Qwen/Qwen2.5-7B-Instruct"
EAGLE3_LLAMA = {  # yuhuili/EAGLE3-LLaMA3.1-Instruct-8B
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 1,
    "vocab_size": 128256,
    "draft_vocab_size": 32000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}


def speculation_of(facts: Facts, method: str, **more: Any) -> Speculation:
    pins = {"serve.speculative.method": method, "serve.speculative.num_speculative_tokens": 3}
    pins |= {f"serve.speculative.{name}": value for name, value in more.items()}
    found = read_inputs(make_spec(pins), facts, ()).speculation
    assert found is not None
    return found


def with_draft(facts: Facts, config: Mapping[str, Any]) -> Facts:
    return replace(facts, draft=ModelFacts("draft", "org/draft", config, "profile"))


def planned(method: str, model: str | None = None, draft: Mapping[str, Any] | None = None, **facts: Any) -> Plan:
    pins: dict[str, Any] = {"serve.speculative.method": method, "serve.speculative.num_speculative_tokens": 3}
    if model is not None:
        pins["serve.speculative.model"] = model
    found = make_facts(QWEN, H100, **facts)
    return make_plan(make_spec(pins), found if draft is None else with_draft(found, draft), LOADERS)


def test_the_prediction_layer_of_deepseek_has_its_published_size() -> None:
    """DeepSeek-V3's README: 11.5 billion parameters in the MTP module beside the shared embedding and output head."""
    found = speculation_of(make_facts("deepseek-ai/DeepSeek-V3", H100), "mtp")
    assert found.architecture is not None
    made = found.architecture
    elements = sum(layer.elements for layer in made.layers) + sum(part.elements for part in made.head)
    assert elements == pytest.approx(11.5e9, rel=0.01)


def test_a_draft_of_eagle_3_has_the_size_of_its_checkpoint() -> None:
    """yuhuili/EAGLE3-LLaMA3.1-Instruct-8B: 850 MB in 16 bits, a table of words and of indices included."""
    facts = with_draft(make_facts("meta-llama/Llama-3.1-8B-Instruct", H100), EAGLE3_LLAMA)
    found = speculation_of(facts, "eagle3", model="yuhuili/EAGLE3-LLaMA3.1-Instruct-8B")
    assert found.weights_bytes(2, 1, whole_segments=False) == pytest.approx(850e6, rel=0.01)
    assert len(found.layers) == 1


@pytest.mark.parametrize("version", ["0.19.1", "0.25.1", "0.33.0"])
def test_weights_and_cache_of_a_whole_draft_are_counted(version: str) -> None:
    draft = config_of("Qwen/Qwen2.5-0.5B-Instruct")
    alone = plan_of(QWEN, H100, version=version, settings={"memory.gpu_memory_utilization": 0.9})
    both = planned("draft_model", "Qwen/Qwen2.5-0.5B-Instruct", draft, version=version)
    more = both.per_gpu[0].weights_bytes - alone.per_gpu[0].weights_bytes
    assert more == pytest.approx(494e6 * 2, rel=0.05)
    token = both.per_gpu[0].kv_cache_bytes / both.kv_cache_tokens
    assert token == pytest.approx(28 * 2 * 4 * 128 * 2 + 24 * 2 * 2 * 64 * 2, rel=0.01)


def test_nobody_drafts_in_a_plain_run() -> None:
    assert read_inputs(make_spec({}), make_facts(QWEN, H100), ()).speculation is None


def test_what_is_not_known_of_a_draft_is_told_and_widens_the_range() -> None:
    known, unknown = planned("eagle3", "org/draft", EAGLE3_LLAMA), planned("eagle3", "org/draft")
    assert any("org/draft is not here" in note for note in unknown.notes)
    assert not any("org/draft is not here" in note for note in known.notes)

    def width(plan: Plan) -> int:
        low, high = plan.prediction.kv_cache_tokens_low, plan.prediction.kv_cache_tokens_high
        assert low is not None and high is not None
        return high - low

    assert width(unknown) > width(known)


def test_the_name_of_a_draft_tells_the_size_of_its_weights() -> None:
    found = speculation_of(make_facts(QWEN, H100), "draft_model", model="org/tiny-0.5B-chat")
    assert found.weights_bytes(2, 1, whole_segments=False) == 10**9
    assert "by its name" in found.notes[0]


def test_the_speed_is_a_span_and_no_figure() -> None:
    plan = planned("ngram")
    assert plan.prediction.decode_tokens_per_second is None
    assert any("answers 1 to 4" in note and "is not known" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("pins", "key"),
    [
        ({"num_speculative_tokens": 3}, "num_speculative_tokens"),
        ({"method": "eagle", "num_speculative_tokens": 3}, "model"),
        ({"method": "ngram"}, "num_speculative_tokens"),
        ({"method": "ngram", "num_speculative_tokens": 3, "options": {"method": "eagle"}}, "options"),
    ],
)
def test_what_speculation_lacks_is_refused(pins: Mapping[str, Any], key: str) -> None:
    plan = plan_of(QWEN, H100, settings={f"serve.speculative.{name}": value for name, value in pins.items()})
    [problem] = plan.mistakes
    assert problem.key == f"serve.speculative.{key}"
    assert problem.remedy
