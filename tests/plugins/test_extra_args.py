"""serve.extra_args against the engine's real options."""

from __future__ import annotations

import json

import pytest

from nexus_orch.cli import main
from nexus_orch.errors import render_problems
from tests.plugins.plans import plan_of, render

GOOD = [
    ("0.32.0", ["--seed", "7"]),
    ("0.32.0", ["--seed=7"]),
    ("0.32.0", ["--max_logprobs", "5"]),
    ("0.32.0", ["--no-enable-prefix-caching"]),
    ("0.32.0", ["--enable-prefix-caching", "--max-logprobs", "-1"]),
    ("0.32.0", ["-dp", "2"]),
    ("0.32.0", ["--middleware", "a", "--middleware", "b"]),
    ("0.32.0", ["-O3"]),
    ("0.32.0", ["-O", "3"]),
    ("0.7.3", ["-O3"]),
    ("0.32.0", ["--compilation-config", '{"mode": 3}']),
    ("0.32.0", ["--compilation-config.mode", "3", "--compilation_config.cudagraph_mode=NONE"]),
    ("0.32.0", ["--kv-cache-dtype-skip-layers", "0", "1", "sliding_window"]),
    ("0.32.0", ["--max-num-batched-tokens", "8k"]),
    ("0.32.0", ["--distributed-executor-backend", "anything"]),
    ("0.32.0", ["--quantization", "a_method_of_a_plugin"]),
    ("0.7.3", ["--enable-chunked-prefill", "false"]),
    ("0.7.3", ["--enable-chunked-prefill"]),
    ("0.19.1", ["--hf-overrides", '{"a": 1}']),
    ("0.32.0", ["--hf-token"]),
    ("0.32.0", ["--generation-conf", "vllm"]),
    ("0.32.0", ["--max-logpr=5"]),
    ("0.32.0", ["--no-async-sched"]),
    ("0.32.0", ["--compilation-conf.pass_config.fuse_norm_quant", "true"]),
    ("0.32.0", ["--compilation-config.custom_ops+", "none,+rms_norm"]),
    ("0.9.2", ["-O.level=3"]),
    ("0.9.2", ["-O", '{"level": 3}']),
]

BAD = [
    ("0.32.0", ["--max-num-sequences", "4"], "0.32.0 has no --max-num-sequences", "did you mean --max-num-seqs?"),
    ("0.32.0", ["--max-num", "4"], "--max-num is short for several options", "or --max-num-seqs"),
    ("0.32.0", ["--config", "serve.yaml"], "what the file says would go past the plan", "nexus import"),
    ("0.32.0", ["--seed", "7", "-1e5"], "has no -1e5", None),
    ("0.8.5.post1", ["--limit-mm-per-prompt.image=1"], "takes no keys of JSON in vLLM 0.8.5.post1 (0.9.0 and", None),
    ("0.9.0", ["--compilation-config.custom_ops+", "none"], "takes no keys of JSON in vLLM 0.9.0 (0.9.2 and", None),
    ("0.32.0", ["--compilation-config.mode"], "needs a value after its key", None),
    ("0.32.0", ["-cc.mode=3", "--compilation-config", "{}"], "is given as a whole and by keys", "keep one"),
    ("0.32.0", ["-cc.mode=3", "--compilation-config.backend=x"], "is given by keys under two names", "keep one"),
    ("0.32.0", ["--swap-space", "4"], "has no --swap-space", "0.16.0 and earlier of vLLM have it"),
    ("0.16.0", ["--offload-backend=uva"], "has no --offload-backend", "0.19.1 and later of vLLM have it"),
    ("0.8.5.post1", ["--no-enforce-eager"], "has no --no-enforce-eager", "did you mean"),
    ("0.32.0", ["--zzzzqq"], "has no --zzzzqq", "nexus engine flags"),
    ("0.32.0", ["--seed"], "--seed needs a value", None),
    ("0.32.0", ["--seed", "x"], "--seed takes a whole number, not x", None),
    ("0.32.0", ["--seed", "1", "2"], "takes one value, not 2", None),
    ("0.32.0", ["--enable-prefix-caching=yes"], "takes no value", None),
    ("0.32.0", ["--headless", "true"], "takes no value", None),
    ("0.32.0", ["--watermark", "much"], "takes a number, not much", None),
    ("0.32.0", ["--runner", "pool"], "does not take pool; did you mean pooling?", None),
    ("0.32.0", ["--compilation-config", "{mode: 3}"], "takes JSON, which {mode: 3} is not", None),
    ("0.32.0", ["--seed.x", "3"], "takes no keys of JSON", None),
    ("0.32.0", ["stray", "--seed", "1"], "this word belongs to no option", "every value follows"),
    ("0.5.5", ["-O3"], "0.5.5 has no -O", None),
    ("0.32.0", ["--async-scheduling", "--no-async-scheduling"], "--async-scheduling is given both ways", "keep one"),
    ("0.32.0", ["--seed", "1", "--seed=2"], "--seed is given twice", "keep one of them"),
    ("0.32.0", ["-dp", "2", "--data_parallel_size", "4"], "--data-parallel-size is given twice", "keep one of them"),
]


@pytest.mark.parametrize(("version", "extra_args"), GOOD)
def test_what_the_engine_takes_is_passed_on_at_the_end(version: str, extra_args: list[str]) -> None:
    rendering = render(plan_of({"serve.port": 8000}, extra_args=extra_args), version)
    assert rendering.problems == ()
    assert rendering.argv == ("serve", "/models/m", "--port", "8000", *extra_args)


@pytest.mark.parametrize(("version", "extra_args", "message", "remedy"), BAD)
def test_a_mistake_is_told_with_its_remedy(
    version: str, extra_args: list[str], message: str, remedy: str | None
) -> None:
    (problem,) = render(plan_of({}, extra_args=extra_args), version).problems
    assert message in problem.message
    assert (problem.key, problem.origin) == ("serve.extra_args", "my.yaml")
    assert remedy is None or remedy in (problem.remedy or "")


def test_an_unknown_option_has_a_cause() -> None:
    (problem,) = render(plan_of({}, extra_args=["--nothing"]), "0.32.0").problems
    assert problem.cause == "unrecognized_argument"


@pytest.mark.parametrize(
    ("key", "value", "extra_args"),
    [
        ("model.max_model_len", 4096, ["--max-model-len", "2048"]),
        ("model.max_model_len", 4096, ["--max_model_len=2048"]),
        ("serve.tensor_parallel", 1, ["-tp", "2"]),
        ("memory.gpu_memory_utilization", 0.9, ["--device-memory-utilization", "0.8"]),
        ("memory.enforce_eager", True, ["--no-enforce-eager"]),
        ("model.path", "/models/m", ["--model", "/models/other"]),
        ("serve.port", 8000, ["--port", "9000"]),
    ],
)
def test_an_option_given_both_ways_is_a_problem(key: str, value: object, extra_args: list[str]) -> None:
    (problem,) = render(plan_of({key: value}, "derived", extra_args=extra_args), "0.32.0").problems
    assert f"{key} says" in problem.message
    assert f"set {key} instead" in (problem.remedy or "")


GROUPS = {
    "memory.offload_backend": "prefetch",
    "memory.prefetch.group_size": 19,
    "memory.prefetch.num_in_group": 7,
    "memory.prefetch.step": 1,
}


@pytest.mark.parametrize(
    ("settings", "option", "remedy"),
    [
        (GROUPS, ["--cpu-offload-gb", "9"], "set memory.cpu_offload_gib instead"),
        (GROUPS, ["--cpu_offload_gb=9"], "set memory.cpu_offload_gib instead"),
        (GROUPS, ["--offload-params", "experts"], "set memory.offload_params instead"),
        (GROUPS, ["--offload-group-size", "4"], "leave --offload-group-size out: the planner works it out"),
        ({"memory.cpu_offload_gib": 7}, ["--offload-group-size", "4"], "the planner works it out"),
        ({"memory.cpu_offload_gib": 7}, ["--offload-backend", "prefetch"], "set memory.offload_backend instead"),
    ],
)
def test_an_option_beside_others_of_its_subject_is_a_problem(
    settings: dict[str, object], option: list[str], remedy: str
) -> None:
    """A plan that offloads by groups of layers has no --cpu-offload-gb: one by hand would be obeyed all the same."""
    (problem,) = render(plan_of(settings, "derived", extra_args=option), "0.33.0").problems
    assert (problem.key, problem.origin) == ("serve.extra_args", "my.yaml")
    assert remedy in (problem.remedy or "")


def test_offloading_by_extra_arguments_alone_stands() -> None:
    extra_args = ["--offload-backend", "prefetch", "--offload-group-size", "4"]
    assert render(plan_of({}, extra_args=extra_args), "0.33.0").problems == ()


@pytest.mark.parametrize(
    ("pin", "extra_args", "names"),
    [
        ("memory.cpu_offload_gib=0", "['--cpu-offload-gb','9']", "memory.cpu_offload_gib says --cpu-offload-gb"),
        ("memory.cpu_offload_gib=7", "['--cpu-offload-gb','9']", "memory.cpu_offload_gib says --cpu-offload-gb"),
        ("memory.cpu_offload_gib=7", "['--offload-group-size','4']", "says --offload-group-size already"),
        ("memory.kv_cache.calculate_scales=false", "['--calculate-kv-scales']", "memory.kv_cache.calculate_scales"),
    ],
)
def test_a_pin_that_goes_without_its_option_is_contradicted_all_the_same(
    pin: str, extra_args: str, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["plan", "hardware=rtx4090", "model=qwen14b", "memory=auto", "engine.version=0.25.1"]
    assert main([*run, pin, f"serve.extra_args={extra_args}", "--format", "json"]) == 2
    assert any(names in problem["message"] for problem in json.loads(capsys.readouterr().out)["problems"])


def test_a_default_is_no_pin(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["plan", "hardware=rtx4090", "model=qwen7b", "serve.extra_args=['--trust-remote-code']"]
    assert main([*run, "--format", "json"]) == 0
    assert "--trust-remote-code" in json.loads(capsys.readouterr().out)["argv"]


@pytest.mark.parametrize("extra_args", [["--api-key", "s3cret"], ["--api-key=s3cret"], ["--hf-token", "s3cret"]])
def test_a_secret_on_the_command_line_is_refused_and_not_shown(extra_args: list[str]) -> None:
    rendering = render(plan_of({}, extra_args=["--seed", "1", *extra_args]), "0.32.0")
    (problem,) = rendering.problems
    assert "can be read by every process" in problem.message
    assert "s3cret" not in render_problems(rendering.problems)
    assert not any("s3cret" in word for word in rendering.argv)


def test_all_mistakes_come_at_once() -> None:
    rendering = render(plan_of({}, extra_args=["--one", "--seed", "x", "--two"]), "0.32.0")
    assert len(rendering.problems) == 3
