"""Rules over several settings: WSL, the V0 engine, the way weights are read, the cores of CPU ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus_orch.contracts import Rendering
from nexus_orch.plan.make import make_plan
from tests.plan.cases import make_facts, make_gpu, make_spec
from tests.plan.cases import plan_of as plan_model
from tests.plugins.plans import plan_of, render

OFFLOAD = {"memory.cpu_offload_gib": 4.5}
RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
PIN = "VLLM_WSL2_ENABLE_PIN_MEMORY"


def reasons_of(rendering: Rendering) -> dict[str, str]:
    return {choice.key: choice.reason for choice in rendering.choices}


# WSL


@pytest.mark.parametrize(
    ("version", "env"),
    [
        ("0.7.3", {}),
        ("0.19.1", {}),
        ("0.22.1", {RUNNER: "0"}),
        ("0.25.1", {PIN: "1"}),
        ("0.33.0", {PIN: "1"}),
        ("0.26.0.dev123+gabc", {PIN: "1"}),
    ],
)
def test_pinned_memory_under_wsl(version: str, env: dict[str, str]) -> None:
    rendering = render(plan_of({"memory.pin_host": True}, "derived"), version)
    assert (dict(rendering.env), rendering.problems) == (env, ())


def test_offloading_under_wsl_asks_for_pinning() -> None:
    rendering = render(plan_of({**OFFLOAD, "memory.pin_host": True}, "derived"), "0.25.1")
    assert dict(rendering.env) == {PIN: "1", RUNNER: "0"}


def test_what_the_user_says_about_pinning_stands() -> None:
    rendering = render(plan_of({"memory.pin_host": True}, "derived", env={PIN: "0"}), "0.33.0")
    assert (dict(rendering.env), rendering.problems) == ({}, ())
    assert "engine.env sets" in reasons_of(rendering)["memory.pin_host"]


def test_asking_for_the_second_runner_without_pinning_is_refused() -> None:
    (problem,) = render(plan_of({"memory.pin_host": True}, "derived", env={RUNNER: "1"}), "0.22.1").problems
    assert problem.cause == "pinned_memory_unavailable"


def test_the_planner_asks_for_pinning_under_wsl_alone() -> None:
    assert plan_model("Qwen/Qwen2.5-7B-Instruct", make_gpu(), is_wsl=True).settings["memory.pin_host"] is True
    assert "memory.pin_host" not in plan_model("Qwen/Qwen2.5-7B-Instruct", make_gpu()).settings
    assert "memory.pin_host" not in plan_model("Qwen/Qwen2.5-7B-Instruct", is_wsl=True).settings


# the V0 engine inside V1 releases


@pytest.mark.parametrize("version", ["0.8.5.post1", "0.9.2", "0.10.2"])
def test_swap_space_of_the_v0_engine_that_the_user_asks_for(version: str) -> None:
    rendering = render(plan_of({"memory.swap_gib": 4}, env={"VLLM_USE_V1": "0"}), version)
    assert (rendering.problems, rendering.argv) == ((), ("serve", "/models/m", "--swap-space", "4"))


@pytest.mark.parametrize("version", ["0.11.2", "0.33.0"])
def test_asking_for_the_v0_engine_where_there_is_none(version: str) -> None:
    (problem,) = render(plan_of({}, env={"VLLM_USE_V1": "0"}), version).problems
    assert "has no V0 engine" in problem.message
    assert problem.key == "engine.env.VLLM_USE_V1"
    assert render(plan_of({}, env={"VLLM_USE_V1": "1"}), version).problems == ()


def test_offloading_by_extra_arguments_is_offloading() -> None:
    rendering = render(plan_of({}, extra_args=["--cpu-offload-gb", "4"]), "0.25.1")
    assert rendering.env == {RUNNER: "0"}


# the way weights are read


@pytest.mark.parametrize(("version", "says"), [("0.9.2", False), ("0.16.0", False), ("0.19.1", True), ("0.33.0", True)])
def test_checkpoints_are_not_read_ahead_beside_offloaded_weights(version: str, says: bool) -> None:
    rendering = render(plan_of(OFFLOAD, "derived"), version)
    assert ("--safetensors-load-strategy" in rendering.argv) is says
    assert ("memory.load_strategy" in reasons_of(rendering)) is says
    assert "--safetensors-load-strategy" not in render(plan_of({}), version).argv


@pytest.mark.parametrize("cpu", [True, False])
def test_what_was_preloaded_is_not_read_ahead(cpu: bool) -> None:
    plan = plan_of({"memory.preload.enabled": True, "memory.preload.channels": 4}, "derived")
    rendering = render(plan, "0.32.0", cpu=cpu)
    assert rendering.argv[-2:] == ("--safetensors-load-strategy", "lazy")
    assert "read into RAM before" in reasons_of(rendering)["memory.load_strategy"]


@pytest.mark.parametrize("option", ["--safetensors-load-strategy", "--safetensors_load_strategy"])
def test_the_users_own_strategy_stands(option: str) -> None:
    rendering = render(plan_of(OFFLOAD, extra_args=[option, "eager"]), "0.32.0")
    assert rendering.problems == ()
    assert rendering.argv[-2:] == (option, "eager")
    assert "lazy" not in rendering.argv


# the cores of CPU ranks


@pytest.mark.parametrize("binding", ["0-3|4-7", "all"])
def test_ranks_with_their_cores(binding: str) -> None:
    settings = {"serve.tensor_parallel": 2, "serve.cpu_threads_bind": binding}
    rendering = render(plan_of(settings), "0.32.0", cpu=True)
    assert (rendering.problems, dict(rendering.env)) == ((), {"VLLM_CPU_OMP_THREADS_BIND": binding})


@pytest.mark.parametrize("by_env", [True, False])
def test_cores_for_another_number_of_ranks_are_refused(by_env: bool) -> None:
    binding = {} if by_env else {"serve.cpu_threads_bind": "0-3|4-7|8-11"}
    env = {"VLLM_CPU_OMP_THREADS_BIND": "0-3|4-7|8-11"} if by_env else {}
    (problem,) = render(plan_of({"serve.tensor_parallel": 2, **binding}, env=env), "0.32.0", cpu=True).problems
    assert problem.message == "the cores of 3 ranks are named, and there are 2"
    assert problem.cause == "cpu_binding"


def test_cores_given_both_ways_are_a_contradiction() -> None:
    plan = plan_of({"serve.cpu_threads_bind": "0-3"}, env={"VLLM_CPU_OMP_THREADS_BIND": "0-7"})
    (problem,) = render(plan, "0.32.0", cpu=True).problems
    assert "engine.env sets VLLM_CPU_OMP_THREADS_BIND" in problem.message


def test_the_cores_of_the_spec_reach_the_engine() -> None:
    spec = make_spec({"serve.cpu_threads_bind": "0-3|4-7", "serve.tensor_parallel": 2})
    facts = make_facts("Qwen/Qwen2.5-0.5B-Instruct")
    plan = make_plan(replace(spec, model=replace(spec.model, path="/models/m")), facts, {})
    assert render(plan, "0.32.0", cpu=True).env["VLLM_CPU_OMP_THREADS_BIND"] == "0-3|4-7"
