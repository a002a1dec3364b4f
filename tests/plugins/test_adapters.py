"""What the adapters say to each generation of vLLM, and what they refuse."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.choose import choose_adapter
from nexus_orch.errors import render_problems
from nexus_orch.releases.known import known_releases
from tests.plugins.plans import plan_of, render, shipped_plugins
from tests.releases.ends import NEXT

BASE = {"model.dtype": "float16", "model.max_model_len": 4096, "memory.gpu_memory_utilization": 0.9, "serve.port": 8000}
OFFLOAD = {"memory.cpu_offload_gib": 4.5, "memory.offload_backend": "uva"}
PREFETCH = {
    "memory.offload_backend": "prefetch",
    "memory.cpu_offload_gib": 4.5,
    "memory.prefetch.group_size": 8,
    "memory.prefetch.num_in_group": 2,
    "memory.prefetch.step": 1,
}
SWITCHES = {"memory.enforce_eager": True, "model.trust_remote_code": False, "memory.kv_cache.calculate_scales": True}
EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
EXACTLY = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,pinned_max_cached_size_mb:16"}
IN_PARALLEL = {"PYTORCH_CUDA_ALLOC_CONF": "pinned_use_cuda_host_register:True,pinned_num_register_threads:8"}
FIRST_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
LAZY = "--safetensors-load-strategy lazy"
BASE_WORDS = "--dtype float16 --max-model-len 4096 --gpu-memory-utilization 0.9"

GOLDEN: list[tuple[str, bool, dict[str, Any], str, dict[str, str]]] = [
    ("0.4.3", False, BASE, f"--model /models/m {BASE_WORDS} --port 8000", {}),
    ("0.5.5", False, BASE, f"serve /models/m {BASE_WORDS} --port 8000", {}),
    ("0.7.3", False, {"memory.swap_gib": 4.0}, "serve /models/m --swap-space 4", {}),
    ("0.7.3", False, {"memory.swap_gib": 0}, "serve /models/m --swap-space 0", {}),
    ("0.33.0", False, {"memory.swap_gib": 0}, "serve /models/m", {}),
    (
        "0.8.5.post1",
        False,
        BASE | OFFLOAD,
        f"serve /models/m {BASE_WORDS} --cpu-offload-gb 4.5 --port 8000",
        EXPANDABLE,
    ),
    ("0.16.0", False, OFFLOAD, "serve /models/m --cpu-offload-gb 4.5", EXPANDABLE),
    ("0.19.1", False, OFFLOAD, f"serve /models/m --cpu-offload-gb 4.5 --offload-backend uva {LAZY}", EXPANDABLE),
    ("0.22.1", False, OFFLOAD, f"serve /models/m --cpu-offload-gb 4.5 --offload-backend uva {LAZY}", FIRST_RUNNER),
    (
        "0.27.1",
        False,
        PREFETCH,
        "serve /models/m --offload-backend prefetch --offload-group-size 8 --offload-num-in-group 2"
        f" --offload-prefetch-step 1 {LAZY}",
        FIRST_RUNNER | IN_PARALLEL,
    ),
    ("0.28.0", False, OFFLOAD, f"serve /models/m --cpu-offload-gb 4.5 --offload-backend uva {LAZY}", {}),
    ("0.33.0", False, OFFLOAD, f"serve /models/m --cpu-offload-gb 4.5 --offload-backend uva {LAZY}", EXACTLY),
    ("0.25.1", False, BASE, f"serve /models/m {BASE_WORDS} --port 8000", {}),
    ("0.8.5.post1", False, SWITCHES, "serve /models/m --enforce-eager --calculate-kv-scales", {}),
    ("0.25.1", False, SWITCHES, "serve /models/m --enforce-eager --calculate-kv-scales", {}),
    ("0.14.1", False, {"memory.kv_offload_gib": 8}, "serve /models/m --kv-offloading-size 8", {}),
    ("0.33.0", False, {"memory.kv_cache.size_gib": 1.5}, "serve /models/m --kv-cache-memory-bytes 1610612736", {}),
    ("0.33.0", False, {"memory.kv_cache.max_blocks": 100}, "serve /models/m --num-gpu-blocks-override 100", {}),
    ("0.32.0", True, {"memory.kv_cache.size_gib": 0.5}, "serve /models/m --kv-cache-memory-bytes 536870912", {}),
    ("0.19.1", True, {"memory.kv_cache.size_gib": 2.0}, "serve /models/m", {"VLLM_CPU_KVCACHE_SPACE": "2"}),
    ("0.32.0", True, {"memory.kv_cache.block_size": 64}, "serve /models/m --block-size 64", {}),
    (
        "0.32.0",
        False,
        {
            "model.quantization": "awq",
            "model.served_name": "mine",
            "serve.tensor_parallel": 2,
            "serve.pipeline_parallel": 1,
            "memory.kv_cache.dtype": "fp8",
            "serve.max_num_seqs": 16,
            "serve.max_num_batched_tokens": 2048,
            "serve.host": "127.0.0.1",
        },
        "serve /models/m --quantization awq --served-model-name mine --tensor-parallel-size 2"
        " --pipeline-parallel-size 1 --kv-cache-dtype fp8 --max-num-seqs 16 --max-num-batched-tokens 2048"
        " --host 127.0.0.1",
        {},
    ),
]


@pytest.mark.parametrize(("version", "cpu", "settings", "argv", "env"), GOLDEN)
def test_command_line(version: str, cpu: bool, settings: dict[str, Any], argv: str, env: dict[str, str]) -> None:
    rendering = render(plan_of(settings), version, cpu=cpu)
    assert rendering.problems == ()
    assert (" ".join(rendering.argv), dict(rendering.env)) == (argv, env)


class Refusal(NamedTuple):
    """A setting that a release refuses, with a piece of the message and of the remedy."""

    version: str
    cpu: bool
    settings: dict[str, Any]
    message: str
    remedy: str
    cause: str | None = None


REFUSED = [
    Refusal("0.8.5.post1", False, {"memory.swap_gib": 4}, "does nothing since the V1", "use memory.kv_offload_gib"),
    Refusal("0.10.2", False, {"memory.swap_gib": 4}, "does nothing since the V1", "engine.env.VLLM_USE_V1=0"),
    Refusal(
        "0.33.0",
        False,
        {"memory.kv_cache.dtype": "float32"},
        "no release of vLLM has a float32 KV cache",
        "float32 with model.dtype=float32",
        "unsupported_dtype",
    ),
    Refusal("0.12.0", True, {"memory.kv_cache.dtype": "fp8"}, "falls back", "0.21.0 or later", "unsupported_dtype"),
    Refusal("0.32.0", True, {"memory.kv_cache.dtype": "bfloat16"}, "own type or in fp8", "auto", "unsupported_dtype"),
    Refusal("0.32.0", False, {"serve.cpu_threads_bind": "0-3"}, "only the CPU engine", "hardware=cpu", "cpu_binding"),
    Refusal("0.4.3", True, {"serve.cpu_threads_bind": "0-3"}, "binds no threads", "0.5.4 or later", "cpu_binding"),
    Refusal(
        "0.33.0", False, {"memory.kv_cache.block_size": 24}, "multiple of 16", "block_size=32", "unsupported_block_size"
    ),
    Refusal("0.16.0", False, {"memory.kv_cache.dtype": "float16"}, "does not know float16", "0.19.1 and later of vLLM"),
    Refusal("0.32.0", False, {"memory.kv_cache.dtype": "fp8_e4m4"}, "does not know", "did you mean fp8_e4m3?"),
    Refusal("0.28.0", False, {"memory.kv_cache.calculate_scales": True}, "no longer computed", "k_scale"),
    Refusal(
        "0.32.0", False, {"model.dtype": "int3"}, "does not know int3", "it takes auto, bfloat16", "unsupported_dtype"
    ),
    Refusal("0.30.0", False, {"model.quantization": "gguf"}, "not know gguf", "extra_args", "unsupported_quantization"),
    Refusal("0.5.5", False, {"memory.kv_cache.size_gib": 2.0}, "has no --kv-cache-memory-bytes", "0.10.2 and later"),
    Refusal(
        "0.4.3",
        False,
        {"memory.cpu_offload_gib": 2.0},
        "has no --cpu-offload-gb",
        "0.5.5 and later",
        "offload_unsupported",
    ),
    Refusal(
        "0.16.0", False, {"memory.offload_backend": "prefetch"}, "UVA is the only", "0.17.0", "offload_unsupported"
    ),
    Refusal("0.12.0", False, {"memory.kv_offload_gib": 4}, "KV offload is broken", "0.14.0", "offload_unsupported"),
    Refusal("0.10.2", False, {"memory.kv_offload_gib": 4}, "no --kv-offloading-size", "0.11.2", "offload_unsupported"),
    Refusal(
        "0.12.0",
        False,
        {"memory.kv_cache.block_size": 48},
        "not know 48",
        "it takes 1, 8, 16",
        "unsupported_block_size",
    ),
    Refusal("0.32.0", True, {"memory.cpu_offload_gib": 1.0}, "weights in RAM", "GPU engine", "offload_unsupported"),
    Refusal(
        "0.32.0", True, {"memory.offload_backend": "uva"}, "no offload", "offload_backend=auto", "offload_unsupported"
    ),
    Refusal("0.32.0", True, {"memory.kv_offload_gib": 1.0}, "KV offload", "size_gib", "offload_unsupported"),
    Refusal(
        "0.32.0", True, {"memory.kv_cache.block_size": 40}, "multiple of 32", "block_size=32", "unsupported_block_size"
    ),
    Refusal("0.19.1", True, {"memory.kv_cache.size_gib": 0.5}, "whole GiB", "memory.kv_cache.size_gib=1"),
    Refusal("0.19.1", True, {"memory.gpu_memory_utilization": 0.5}, "no effect on the CPU", "kv_cache.size_gib"),
    Refusal(
        "0.32.0",
        True,
        {"serve.tensor_parallel": 2},
        "cores named",
        "serve.cpu_threads_bind='0-3|4-7'",
        "cpu_binding",
    ),
]


@pytest.mark.parametrize("refusal", REFUSED, ids=str)
def test_a_pinned_setting_that_cannot_be_honoured_is_a_problem(refusal: Refusal) -> None:
    rendering = render(plan_of(refusal.settings), refusal.version, cpu=refusal.cpu)
    ((key, value),) = refusal.settings.items()
    (problem,) = rendering.problems
    assert refusal.message in problem.message
    assert refusal.remedy in (problem.remedy or "")
    assert (problem.key, problem.value, problem.cause) == (key, value, refusal.cause)
    assert problem.origin == f"{key} on the command line"


@pytest.mark.parametrize(
    "refusal", [case for case in REFUSED if case.settings.keys() != {"serve.tensor_parallel"}], ids=str
)
def test_a_derived_setting_that_cannot_be_honoured_is_left_out_with_the_reason(refusal: Refusal) -> None:
    rendering = render(plan_of(refusal.settings, "derived"), refusal.version, cpu=refusal.cpu)
    assert rendering.problems == ()
    (choice,) = rendering.choices
    ((key, value),) = refusal.settings.items()
    assert (choice.key, choice.origin) == (key, "derived")
    assert refusal.message in choice.reason
    assert str(value) not in rendering.argv
    assert choice.value != value


def test_a_derived_value_is_moved_to_the_nearest_that_the_release_takes() -> None:
    rendering = render(plan_of({"memory.kv_cache.size_gib": 1.2}, "derived"), "0.19.1", cpu=True)
    assert dict(rendering.env) == {"VLLM_CPU_KVCACHE_SPACE": "2"}
    assert [(choice.key, choice.value) for choice in rendering.choices] == [("memory.kv_cache.size_gib", 2)]


def test_all_problems_come_at_once() -> None:
    settings = {"memory.swap_gib": 4, "memory.kv_cache.dtype": "float32", "memory.kv_cache.calculate_scales": True}
    rendering = render(plan_of(settings, extra_args=["--no-such-option"]), "0.33.0")
    text = render_problems(rendering.problems)
    assert all(key in text for key in (*settings, "--no-such-option"))
    assert len(rendering.problems) == 4


def test_settings_without_a_value_are_not_said() -> None:
    assert render(plan_of({"model.dtype": None, "serve.port": None}), "0.32.0").argv == ("serve", "/models/m")


def test_the_reason_for_the_first_model_runner_is_told() -> None:
    reasons = {choice.key: (choice.value, choice.reason) for choice in render(plan_of(OFFLOAD), "0.25.1").choices}
    value, reason = reasons["engine.env.VLLM_USE_V2_MODEL_RUNNER"]
    assert value == "0"
    assert "ignores offloading" in reason


def test_the_user_may_ask_for_the_first_model_runner_alone() -> None:
    rendering = render(plan_of(OFFLOAD, env={"VLLM_USE_V2_MODEL_RUNNER": "0"}), "0.25.1")
    assert (rendering.problems, dict(rendering.env)) == ((), {})


def test_asking_for_the_runner_that_ignores_offloading_is_a_contradiction() -> None:
    (problem,) = render(plan_of(OFFLOAD, env={"VLLM_USE_V2_MODEL_RUNNER": "1"}), "0.25.1").problems
    assert problem.cause == "offload_ignored"


def test_a_variable_of_the_user_that_decides_the_same_is_a_contradiction() -> None:
    env = {"VLLM_CPU_KVCACHE_SPACE": "3"}
    (problem,) = render(plan_of({"memory.kv_cache.size_gib": 2.0}, env=env), "0.32.0", cpu=True).problems
    assert "engine.env sets VLLM_CPU_KVCACHE_SPACE" in problem.message
    derived = render(plan_of({"memory.kv_cache.size_gib": 2.0}, "derived", env=env), "0.32.0", cpu=True)
    assert (derived.argv, derived.problems) == (("serve", "/models/m"), ())


def test_ranks_on_the_cpu_engine_with_their_cores() -> None:
    by_plan = render(plan_of({"serve.tensor_parallel": 2, "serve.cpu_threads_bind": "0|1"}), "0.32.0", cpu=True)
    assert (by_plan.problems, dict(by_plan.env)) == ((), {"VLLM_CPU_OMP_THREADS_BIND": "0|1"})
    by_user = plan_of({"serve.tensor_parallel": 2}, env={"VLLM_CPU_OMP_THREADS_BIND": "0|1"})
    assert render(by_user, "0.32.0", cpu=True).problems == ()


@pytest.mark.parametrize("version", known_releases())
def test_the_api_key_is_a_secret_variable(version: str) -> None:
    rendering = render(plan_of({"serve.api_key_env": "MY_KEY"}), version)
    assert rendering.secret_env == {"VLLM_API_KEY": "MY_KEY"}
    assert rendering.secrets == {"VLLM_API_KEY"}
    assert dict(rendering.env) == {}
    assert not any("key" in word.lower() for word in rendering.argv)


def test_an_api_key_in_engine_env_as_well_is_a_problem() -> None:
    rendering = render(plan_of({"serve.api_key_env": "MY_KEY"}, env={"VLLM_API_KEY": "secret"}), "0.32.0")
    (problem,) = rendering.problems
    assert "twice" in problem.message and "secret" not in render_problems(rendering.problems)


def test_who_refuses_a_range_of_releases_names_those_that_can() -> None:
    ways = [(key, way) for key, known in SETTINGS.items() for way in known if way.refused and way.releases]
    assert len(ways) > 5
    assert [key for key, way in ways if not re.search(r"vLLM (before )?0\.\d", way.instead or "")] == []


@pytest.mark.parametrize("version", [*known_releases(), "0.40.0", "0.21.0", f"{NEXT}.dev5+g1", "0.32.0+cpu"])
def test_every_release_has_exactly_one_adapter(version: str) -> None:
    assert choose_adapter(shipped_plugins().adapters(), version).name in ("v0", "v1", "v2")
