"""Whatever the settings, the release and the device: the adapters keep their promises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.adapt.arguments import read_arguments
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.releases.known import known_releases
from nexus_orch.types import Origin
from tests.plugins.plans import plan_of, render

pytestmark = pytest.mark.slow

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model.dtype": st.sampled_from(["auto", "float16", "bfloat16", "float32", "half", "int8"]),
    "model.quantization": st.sampled_from(["awq", "gptq", "fp8", "gguf", "bitsandbytes", "mxfp4", "nonsense"]),
    "model.max_model_len": st.integers(1, 200_000),
    "model.trust_remote_code": st.booleans(),
    "model.served_name": st.sampled_from(["m", "my model"]),
    "model.rope_scaling": st.sampled_from([{"rope_type": "yarn", "factor": 2.0}]),
    "model.hf_overrides": st.sampled_from([{"rope_theta": 1000000}, {"text_config": {"x": 1}}]),
    "model.limit_mm_per_prompt": st.sampled_from([{"image": 2}, {"image": 0, "video": 1}]),
    "model.language_model_only": st.booleans(),
    "model.lora.enabled": st.booleans(),
    "model.lora.max_loras": st.integers(1, 64),
    "model.lora.max_lora_rank": st.sampled_from([1, 8, 16, 24, 64, 128, 320, 512]),
    "model.lora.max_cpu_loras": st.integers(1, 64),
    "model.lora.modules": st.sampled_from([("a=/adapters/a",), ("a=/adapters/a", "b=org/b")]),
    "model.lora.target_modules": st.sampled_from([("q_proj",), ("q_proj", "v_proj")]),
    "model.lora.dtype": st.sampled_from(["float16", "bfloat16", "float32"]),
    "model.lora.fully_sharded": st.booleans(),
    "serve.tensor_parallel": st.integers(1, 8),
    "serve.pipeline_parallel": st.integers(1, 4),
    "memory.gpu_memory_utilization": st.floats(0.1, 1.0),
    "memory.cpu_offload_gib": st.floats(0, 64) | st.integers(0, 64),
    "memory.offload_backend": st.sampled_from(["auto", "uva", "prefetch"]),
    "memory.prefetch.group_size": st.integers(0, 32),
    "memory.prefetch.num_in_group": st.integers(1, 8),
    "memory.prefetch.step": st.integers(1, 3),
    "memory.offload_params": st.sampled_from([("experts",), ("experts.w2_weight", "mlp")]),
    "memory.prefetch.params": st.sampled_from([("experts",), ("experts.w2_weight", "mlp")]),
    "memory.kv_offload_gib": st.floats(0, 64),
    "memory.kv_offload_dir": st.sampled_from(["/var/tmp/kv", "/data/kv blocks"]),
    "memory.swap_gib": st.floats(0, 16),
    "memory.enforce_eager": st.booleans(),
    "memory.kv_cache.dtype": st.sampled_from(["auto", "fp8", "fp8_e5m2", "float16", "float32", "nvfp4"]),
    "memory.kv_cache.block_size": st.sampled_from([1, 8, 16, 24, 32, 40, 64, 128, 256]),
    "memory.kv_cache.max_blocks": st.integers(1, 100_000),
    "memory.kv_cache.size_gib": st.floats(0.1, 80) | st.integers(1, 80),
    "memory.kv_cache.calculate_scales": st.booleans(),
    "serve.data_parallel": st.integers(1, 8),
    "serve.expert_parallel": st.booleans(),
    "serve.prefix_caching": st.booleans(),
    "serve.max_num_seqs": st.integers(1, 1024),
    "serve.max_num_batched_tokens": st.integers(1, 32_768),
    "serve.pipeline_partition": st.sampled_from([(20, 12), (8, 8, 8)]),
    "hardware.gpu.devices": st.sampled_from([(0,), (2, 0)]),
    "hardware.gpu.device_order": st.just("PCI_BUS_ID"),
    "memory.pin_host": st.booleans(),
    "serve.cpu_threads_bind": st.sampled_from(["0-3", "0-3|4-7", "all"]),
    "serve.speculative.method": st.sampled_from(["ngram", "draft_model", "eagle", "eagle3", "mtp", "medusa", "dflash"]),
    "serve.speculative.model": st.sampled_from(["/models/draft", "org/draft"]),
    "serve.speculative.num_speculative_tokens": st.integers(1, 8),
    "serve.speculative.draft_tensor_parallel": st.integers(1, 8),
    "serve.speculative.quantization": st.sampled_from(["fp8", "awq"]),
    "serve.speculative.max_model_len": st.integers(1, 200_000),
    "serve.speculative.prompt_lookup_max": st.integers(1, 8),
    "serve.speculative.prompt_lookup_min": st.integers(1, 8),
    "serve.speculative.options": st.sampled_from([{"enforce_eager": True}, {"draft_sample_method": "probabilistic"}]),
    "serve.host": st.sampled_from(["127.0.0.1", "0.0.0.0"]),
    "serve.port": st.integers(1, 65_535),
}

some_settings = st.fixed_dictionaries({}, optional=VALUES)
releases = st.sampled_from(known_releases())
origins: st.SearchStrategy[Origin] = st.sampled_from(["pinned", "derived", "learned"])


def test_every_setting_of_the_table_is_tried() -> None:
    assert VALUES.keys() == SETTINGS.keys()


@settings(max_examples=300, deadline=None)
@given(some_settings, releases, origins, st.booleans())
def test_what_is_said_is_known_to_the_engine(wanted: dict[str, Any], version: str, origin: Origin, cpu: bool) -> None:
    engine = make_assumed_engine(version, cpu=cpu)
    rendering = render(plan_of(wanted, origin), version, cpu=cpu)
    words = rendering.argv[1:] if rendering.argv[0] == "--model" else rendering.argv[2:]
    for given_option in read_arguments([word for word in words if word != "/models/m"], engine).options:
        flag = given_option.flag
        assert flag is not None, given_option.name
        if flag.choices:
            assert given_option.values[0] in map(str, flag.choices)
        assert bool(given_option.values) is (flag.kind not in ("store_true", "bool_optional"))


@pytest.mark.parametrize("version", known_releases())
@pytest.mark.parametrize("cpu", [False, True], ids=["cuda", "cpu"])
@settings(max_examples=30, deadline=None)
@given(st.data(), origins)
def test_each_option_gets_what_the_release_reads(version: str, cpu: bool, data: st.DataObject, origin: Origin) -> None:
    """Each setting alone, with whole and broken numbers: a release whose option is an int never gets 1.5."""
    engine = make_assumed_engine(version, cpu=cpu)
    for key, strategy in VALUES.items():
        value = data.draw(strategy, label=key)
        rendering = render(plan_of({key: value}, origin), version, cpu=cpu)
        for given_option in read_arguments(rendering.argv[2:], engine).options:
            flag = given_option.flag
            assert flag is not None
            for word in given_option.values:
                if flag.takes_whole_numbers:
                    int(word)
                elif flag.type == "float":
                    float(word)


def test_half_a_gib_of_swap_where_the_option_is_an_int() -> None:
    (problem,) = render(plan_of({"memory.swap_gib": 1.5}), "0.4.3").problems
    assert (problem.key, problem.remedy) == ("memory.swap_gib", "memory.swap_gib=2")
    assert "--swap-space takes whole numbers only in this release" in problem.message
    derived = render(plan_of({"memory.swap_gib": 0.2}, "derived"), "0.4.3")
    assert derived.argv[-2:] == ("--swap-space", "1")
    assert [choice.value for choice in derived.choices] == [1]
    assert render(plan_of({"memory.swap_gib": 1.5}), "0.5.5").argv[-2:] == ("--swap-space", "1.5")


@settings(max_examples=300, deadline=None)
@given(some_settings, releases, st.booleans())
def test_a_pinned_setting_is_said_or_refused_and_never_changed(wanted: dict[str, Any], version: str, cpu: bool) -> None:
    rendering = render(plan_of(wanted), version, cpu=cpu)
    assert not {choice.key for choice in rendering.choices} & wanted.keys()
    for problem in rendering.problems:
        assert problem.key in wanted
        assert problem.remedy
        assert problem.value == wanted[str(problem.key)]


@settings(max_examples=300, deadline=None)
@given(some_settings, releases, st.sampled_from(["derived", "learned"]), st.booleans())
def test_a_derived_setting_never_stops_the_run(wanted: dict[str, Any], version: str, origin: Origin, cpu: bool) -> None:
    rendering = render(plan_of(wanted, origin), version, cpu=cpu)
    assert {problem.cause for problem in rendering.problems} <= {"cpu_binding"}
    assert all(choice.reason for choice in rendering.choices)


@settings(max_examples=100, deadline=None)
@given(some_settings, releases, origins, st.booleans())
def test_the_same_plan_gives_the_same_words(wanted: dict[str, Any], version: str, origin: Origin, cpu: bool) -> None:
    backwards = dict(reversed(list(wanted.items())))
    first, second = (render(plan_of(some, origin), version, cpu=cpu) for some in (wanted, backwards))
    assert first == second
