"""Weight formats as checkpoints in the field describe them: bytes of a matrix, and which matrices are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.adapt.models import check_gguf, check_model
from nexus_orch.errors import Problem
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plan import choose_scheme, parse_architecture
from nexus_orch.plan.model.architecture import Parameter
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.plan.model.online import ONLINE
from nexus_orch.plan.release.weights import WeightLayout
from nexus_orch.types import CheckpointFacts, Plan
from tests.plan.cases import config_of, make_facts, make_gpu, make_spec, plan_of

QKV = Parameter("self_attn.qkv_proj.weight", 4096, 4096, "rows", linear=True)
DOWN = Parameter("mlp.down_proj.weight", 4096, 16384, "columns", linear=True)
EXPERTS = Parameter("mlp.experts.w13_weight", 1024, 2048, "rows", 8, 2, linear=True)
HEAD = Parameter("lm_head.weight", 32000, 4096, "vocabulary")
ROUTER = Parameter("mlp.gate.weight", 128, 2048)


def scheme_of(quantization: Mapping[str, Any], **arguments: Any) -> Scheme:
    found = choose_scheme({"quantization_config": quantization}, **arguments)
    assert isinstance(found, Scheme)
    return found


def bits_of(quantization: Mapping[str, Any], parameter: Parameter = QKV, layer: int | None = None) -> float:
    """Bits for each weight, scales included, to two digits."""
    size = scheme_of(quantization).tensor_bytes(parameter, 1, 2, layer)
    return round(size * 8 / parameter.elements, 2)


def _compressed(weights: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups, **more}


NVFP4_WEIGHTS = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, 8.25),
        ({"quant_method": "modelopt", "quant_algo": "fp8_pb_wo"}, 8),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}, 4.5),
        (_compressed(NVFP4_WEIGHTS), 4.5),
        (_compressed({"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}), 4.25),
        (_compressed({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}), 4.5),
        (_compressed({"num_bits": 8, "type": "int", "strategy": "channel"}), 8.01),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_gptq"}, 4.16),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_awq"}, 4.16),
        ({"quant_method": "inc", "bits": 8, "group_size": 128, "packing_format": "auto_round:auto_gptq"}, 8.2),
        ({"quant_method": "auto-round", "bits": 8, "group_size": [128, 128], "data_type": "fp"}, 8),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 32, "data_type": "mx_fp"}, 4.25),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, 8.2),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4.01),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": True}, 4.31),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}}, 4.16),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig", "_data": {}}},
            },
            8.01,
        ),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group"}}}, 4.25),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
            },
            8,
        ),
        ({"quant_method": "fbgemm_fp8"}, 8.01),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8.01),
    ],
)
def test_bits_of_a_weight(quantization: dict[str, Any], bits: float) -> None:
    assert bits_of(quantization) == pytest.approx(bits, abs=0.011)


@pytest.mark.parametrize(
    ("listed", "left", "taken"),
    [
        (["*self_attn*"], QKV, DOWN),
        (["model.layers.*.self_attn.q_proj"], QKV, DOWN),
        (["model.language_model.layers.3.mlp.down_proj"], DOWN, QKV),
        (["re:.*self_attn.*"], QKV, EXPERTS),
        (["re:.*mlp\\.(gate|up|down)_proj.*"], DOWN, EXPERTS),
        (["mlp"], DOWN, QKV),
        (["model.layers.3*"], DOWN, HEAD),
        (["model.layers.3.self_attn*"], QKV, DOWN),
        (["model.layers.3.mlp.*_proj", "model.layers.4.*"], DOWN, QKV),
        (["lm_head"], HEAD, DOWN),
        (["model.layers.3.mlp.experts.0.up_proj"], EXPERTS, DOWN),
    ],
)
def test_what_is_left_out_is_found_in_every_notation(listed: list[str], left: Parameter, taken: Parameter) -> None:
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": listed}
    assert bits_of(quantization, left, 3) == 16
    assert bits_of(quantization, taken, 3) == pytest.approx(4.5, abs=0.01)
    assert bits_of(quantization, ROUTER, 3) == 16


def test_layers_of_one_build_may_be_stored_differently() -> None:
    """The first and the last layer of many checkpoints stay unquantized."""
    config = config_of("Qwen/Qwen3-8B")
    listed = ["lm_head", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "model.layers.35.self_attn*"]
    scheme = scheme_of({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": listed})
    layout = WeightLayout(parse_architecture(config), scheme, 2, 1, 1, whole_segments=False)
    sizes = layout.stages[0].layer_bytes
    assert sizes[0] > sizes[1] == sizes[17]
    assert sizes[35] > sizes[1]


def test_a_pattern_that_is_no_expression_names_nothing() -> None:
    assert bits_of(_compressed(NVFP4_WEIGHTS, ignore=["re:*(", "", 7])) == 4.5


def test_groups_of_modules_have_formats_of_their_own() -> None:
    """Feed-forward blocks in NVFP4, attention in FP8, as mixed checkpoints of Qwen3.8 are."""
    channel = {"num_bits": 8, "type": "float", "strategy": "channel"}
    groups = {
        "group_0": {"targets": ["re:.*mlp\\.(gate|up|down)_proj$"], "weights": NVFP4_WEIGHTS},
        "group_1": {"targets": ["re:.*(self_attn|linear_attn)\\..*proj.*"], "weights": channel},
    }
    quantization = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert bits_of(quantization, DOWN) == 4.5
    assert bits_of(quantization, QKV) == 8.01
    assert bits_of(quantization, EXPERTS) == 16


def test_a_mixed_checkpoint_that_lists_its_layers_is_known() -> None:
    listed = {
        "model.layers.0.mlp.down_proj": {"quant_algo": "NVFP4"},
        "model.layers.1.mlp.down_proj": {"quant_algo": "FP8"},
    }
    quantization = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": listed}
    assert [bits_of(quantization, DOWN, layer) for layer in (0, 1, 2)] == [4.5, 8, 16]
    assert not scheme_of(quantization).is_guess


def test_a_mixed_checkpoint_without_a_list_is_told_as_a_guess() -> None:
    def plan(algorithm: str) -> Plan:
        quantization = {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["mtp*"]}
        settings = {"model.max_model_len": 4096, "memory.enforce_eager": True}
        return plan_of(
            {**config_of("Qwen/Qwen3-8B"), "quantization_config": quantization}, make_gpu(), settings=settings
        )

    def spread(plan: Plan) -> float:
        low, high = plan.prediction.kv_cache_tokens_low, plan.prediction.kv_cache_tokens_high
        assert low is not None
        assert high is not None
        return high - low

    mixed, sure = plan("MIXED_PRECISION"), plan("NVFP4")
    assert any("does not say which layer" in note for note in mixed.notes)
    assert spread(mixed) > 2 * spread(sure)


def test_the_checkpoints_type_of_keys_and_values_is_taken_by_the_releases_that_obey_it() -> None:
    scheme = {"dynamic": False, "num_bits": 8, "type": "float"}
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": scheme}
    config = {**config_of("Qwen/Qwen3-8B"), "quantization_config": quantization}

    def per_token(version: str) -> float:
        plan = plan_of(config, make_gpu(), version=version)
        return plan.per_gpu[0].kv_cache_bytes / plan.kv_cache_tokens

    assert per_token("0.19.1") == pytest.approx(per_token("0.13.0") / 2, rel=0.01)


def test_the_head_is_quantized_unless_it_is_left_out() -> None:
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    assert bits_of(quantization, HEAD) == 4.5
    assert bits_of({**quantization, "ignore": ["model.layers.3*", "model.layers.5"]}, HEAD) == 4.5
    assert bits_of({"quant_method": "gptq", "bits": 4, "lm_head": True}, HEAD) < 5
    assert bits_of({"quant_method": "fp8"}, HEAD) == 16


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_weights_are_converted_while_they_are_loaded(name: str) -> None:
    found = choose_scheme({}, name, version="0.33.0")
    assert isinstance(found, Scheme)
    converted = EXPERTS if found.experts_only else QKV
    assert found.tensor_bytes(converted, 1, 2) < 0.6 * 2 * converted.elements
    assert found.tensor_bytes(ROUTER, 1, 2) == 2 * ROUTER.elements


def test_a_name_that_converts_nothing_is_answered_with_those_that_do() -> None:
    for name, version in (("awq", "0.33.0"), ("mxfp4", "0.25.1")):
        found = choose_scheme({}, name, version=version)
        assert isinstance(found, Problem)
        assert "fp8_per_block" in found.message


@pytest.mark.parametrize(
    ("pinned", "stored", "is_same"),
    [
        ("auto_round", {"quant_method": "auto-round", "bits": 4}, True),
        ("inc", {"quant_method": "auto-round", "bits": 4}, True),
        ("modelopt_fp4", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, True),
        ("moe_wna16", {"quant_method": "gptq", "bits": 4}, True),
        ("awq_marlin", {"quant_method": "awq", "bits": 4}, True),
        ("awq", {"quant_method": "gptq", "bits": 4}, False),
    ],
)
def test_a_pinned_name_that_reads_the_checkpoint_is_no_contradiction(
    pinned: str, stored: dict[str, Any], is_same: bool
) -> None:
    assert isinstance(choose_scheme({"quantization_config": stored}, pinned), Scheme) == is_same


@pytest.mark.parametrize(
    ("stored", "version", "runs"),
    [
        ({"quant_method": "auto-round"}, "0.8.5.post1", False),
        ({"quant_method": "auto-round"}, "0.24.0", True),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "0.16.0", False),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "0.24.0", True),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "0.13.0", True),
    ],
)
def test_releases_that_read_a_format_are_those_that_have_one_of_its_names(
    stored: dict[str, Any], version: str, runs: bool
) -> None:
    config = {**config_of("Qwen/Qwen3-8B"), "quantization_config": stored}
    facts = replace(make_facts(config, make_gpu()), engine=make_assumed_engine(version, cpu=False))
    assert bool(check_model(make_spec(), facts)) is not runs


def test_a_gguf_file_is_refused_by_the_releases_that_read_none() -> None:
    facts = replace(make_facts("Qwen/Qwen3-8B", make_gpu()), engine=make_assumed_engine("0.32.0", cpu=False))
    facts = replace(facts, model=replace(facts.model, checkpoint=CheckpointFacts("gguf", ("a.gguf",), 5 << 30)))
    problem = check_gguf(make_spec(), facts)
    assert problem is not None
    assert "0.5.5 to 0.22.1 of vLLM know it" in str(problem.remedy)
    assert check_gguf(make_spec({"serve.extra_args": ("--quantization", "gguf")}), facts) is None
    assert check_gguf(make_spec(), replace(facts, engine=make_assumed_engine("0.19.1", cpu=False))) is None


_WORDS = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.text(max_size=12), st.just("NVFP4"))
_VALUES = st.recursive(
    _WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
_KEYS = st.sampled_from(
    ("bits", "group_size", "ignore", "quant_algo", "config_groups", "quantized_layers", "extra_config", "dynamic")
)


@given(
    method=st.sampled_from(["awq", "gptq", "modelopt", "auto-round", "compressed-tensors", "torchao", "quark", "fp8"]),
    rest=st.dictionaries(_KEYS, _VALUES, max_size=5),
)
def test_no_configuration_breaks_the_reading(method: str, rest: dict[str, Any]) -> None:
    """Whatever a file holds, it is a format with a size, or a problem."""
    found = choose_scheme({"quantization_config": {**rest, "quant_method": method}})
    if isinstance(found, Scheme):
        assert found.tensor_bytes(QKV, 1, 2, 0) > 0
    else:
        assert found.cause == "unsupported_quantization"
