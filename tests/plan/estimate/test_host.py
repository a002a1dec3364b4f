"""Host RAM: what a run takes of it, the rule of thumb beside it, and what would do where it is too little."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.errors import Problem
from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, CheckpointFacts, Facts, HardwareSpec, HostFacts, HostSpec, Plan, WorkloadSpec
from nexus_orch.view.plan import print_plan
from nexus_orch.view.words import render_bytes
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec, plan_of

Q7, Q14, L70 = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-14B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
CARD = make_gpu()
RAM = "hardware.host.ram_gib"


def _problem(plan: Plan, cause: str) -> Problem:
    return next(problem for problem in plan.problems if problem.cause == cause)


def _with_host(facts: Facts, **changes: Any) -> Facts:
    host: HostFacts = replace(facts.machine.host, **changes)
    return replace(facts, machine=replace(facts.machine, host=host))


def test_the_parts_add_up_and_the_rule_of_thumb_stands_beside_them() -> None:
    host = plan_of(Q14, CARD, version="0.28.0").host
    parts = host.weights_bytes + host.rounding_bytes + host.copies_bytes + host.loading_bytes
    parts += host.process_bytes + host.kv_offload_bytes
    assert parts == host.required_bytes
    assert host.rounding_bytes > 0.5 * host.weights_bytes
    model = 14.77e9 * 2
    assert host.rule_of_thumb_bytes == pytest.approx(2 * model, rel=0.01)
    assert host.rule_of_thumb_swap_bytes == pytest.approx(0.2 * model, rel=0.01)
    assert host.required_bytes < host.rule_of_thumb_bytes


def test_the_parts_are_named_alike_in_the_plan_and_in_its_refusal() -> None:
    """Down to a percent of what the run takes."""
    host = plan_of(Q14, CARD, version="0.28.0").host
    assert sum(size for _, size in host.parts) == pytest.approx(host.required_bytes, rel=0.05)
    assert all(size >= 0.01 * host.required_bytes for _, size in host.parts)
    short = plan_of(Q14, CARD, version="0.28.0", ram_gib=8)
    told = _problem(short, "host_oom").message
    out = io.StringIO()
    print_plan(replace(short, fits=True), (), {}, out)
    shown = " ".join(out.getvalue().split())
    for name, size in short.host.parts:
        assert f"{name} {size / GIB:.1f}" in told
        assert f"{name} {render_bytes(size)}" in shown


def test_a_run_without_offload_takes_its_processes_only() -> None:
    host = plan_of(Q7, CARD).host
    assert host.required_bytes == host.process_bytes
    assert host.pinned_bytes == 0


def test_too_little_ram_names_its_parts_and_what_would_do() -> None:
    plan = plan_of(L70, CARD)
    problem = _problem(plan, "host_oom")
    assert "weights 11" in problem.message
    assert "processes 2.4" in problem.message
    assert problem.remedy is not None
    assert "more cards" in problem.remedy
    total = float(problem.remedy.split("in all ")[1].split(" GiB")[0])
    assert plan_of(L70, CARD, ram_gib=total + 1).fits
    cards = int(problem.remedy.split("fits with ")[1].split()[0])
    assert plan_of(L70, *[CARD] * (1 + cards)).fits


def test_the_shorter_context_that_is_offered_fits() -> None:
    settings = {"model.max_model_len": 32768}
    plan = plan_of(Q14, CARD, settings=settings, ram_gib=14)
    problem = _problem(plan, "host_oom")
    assert problem.remedy is not None
    shorter = int(problem.remedy.split("model.max_model_len=")[1].split(",")[0])
    assert shorter < 32768
    assert plan_of(Q14, CARD, settings={"model.max_model_len": shorter}, ram_gib=14).fits


def test_swap_and_the_control_group_are_named() -> None:
    facts = _with_host(make_facts(L70, CARD), swap_free_bytes=300 * GIB, cgroup_limit_bytes=64 * GIB)
    message = _problem(make_plan(make_spec(), facts, LOADERS), "host_oom").message
    assert "swap does not help" in message
    assert "the control group allows 64.0 GiB" in message


def test_wsl_pins_half_of_its_memory() -> None:
    facts = _with_host(make_facts(Q14, CARD, ram_gib=20, is_wsl=True), pinned_limit_bytes=5 * GIB)
    settings = {"memory.strategy": "hybrid", "memory.offload_backend": "uva"}
    problem = _problem(make_plan(make_spec(settings), facts, LOADERS), "pinned_memory_unavailable")
    assert "5.0 GiB can be" in problem.message
    assert problem.remedy is not None
    more = float(problem.remedy.split("give WSL ")[1].split()[0])
    enough = _with_host(facts, pinned_limit_bytes=int((5 + more / 2 + 0.1) * GIB))
    assert make_plan(make_spec(settings), enough, LOADERS).fits


def _one_user(ram_gib: float = 256, **host: Any) -> str:
    facts = _with_host(make_facts(L70, CARD, ram_gib=ram_gib), **host)
    return "\n".join(make_plan(make_spec(), facts, LOADERS).notes)


def test_one_user_with_most_weights_in_ram_is_told_of_another_tool() -> None:
    assert "llama.cpp" in _one_user()
    assert "two channels of DDR4" in _one_user()
    known = _one_user(ram_bandwidth_bytes_per_second=80e9)
    assert "at 64 GB/s of RAM against" in known
    ours, theirs = known.split("about ")[1].split()[0], known.split("against ")[1].split()[0]
    assert float(ours) > 1.2 * float(theirs)


def test_the_word_is_said_only_when_it_is_true() -> None:
    assert "llama.cpp" not in _one_user(ram_bandwidth_bytes_per_second=20e9)  # slower than the bus
    assert "llama.cpp" not in "\n".join(plan_of(Q14, CARD).notes)  # most weights are on the card
    facts = make_facts(L70, CARD, ram_gib=320)
    many = replace(make_spec(), workload=WorkloadSpec(concurrency=8))
    assert "llama.cpp" not in "\n".join(make_plan(many, facts, LOADERS).notes)
    fast = make_gpu(host_bandwidth_bytes_per_second=450e9)  # NVLink to the processor
    assert "llama.cpp" not in "\n".join(plan_of(L70, fast, ram_gib=320).notes)


def test_memory_of_a_far_node_is_told() -> None:
    near = make_facts(L70, make_gpu(numa_node=1), ram_gib=256)
    note = "the cards on NUMA node 1 need"
    small = _with_host(near, node_available_bytes=(200 * GIB, 56 * GIB))
    assert note in "\n".join(make_plan(make_spec(), small, LOADERS).notes)
    for there in ((0, 256 * GIB), ()):
        large = _with_host(near, node_available_bytes=there)
        assert note not in "\n".join(make_plan(make_spec(), large, LOADERS).notes)


def test_a_page_cache_that_is_too_small_for_the_checkpoint_is_told() -> None:
    facts = make_facts(Q14, CARD, ram_gib=40)
    checkpoint = CheckpointFacts("safetensors", ("model.safetensors",), 29 * GIB)
    facts = replace(facts, model=replace(facts.model, checkpoint=checkpoint))
    assert any("read from the disk again" in note for note in make_plan(make_spec(), facts, LOADERS).notes)
    roomy = _with_host(facts, ram_available_bytes=128 * GIB)
    assert not any("read from the disk again" in note for note in make_plan(make_spec(), roomy, LOADERS).notes)


def test_the_ram_that_is_too_little_is_told_with_its_origin() -> None:
    problem = _problem(plan_of(L70, CARD), "host_oom")
    assert (problem.key, problem.value, problem.origin) == ("hardware.host.ram_gib", 64.0, "measured")
    facts = make_facts(L70, CARD)
    spec = replace(make_spec(), hardware=HardwareSpec(host=HostSpec(ram_gib=64)), origins={RAM: "my.yaml:3"})
    assert _problem(make_plan(spec, facts, LOADERS), "host_oom").origin == "my.yaml:3"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"memory.kv_cache.size_gib": 30}, "memory.kv_cache.size_gib"),
        ({"memory.kv_cache.size_gib": 30, "model.max_model_len": 4096}, "memory.kv_cache.size_gib"),
        ({"model.max_model_len": 32768, "model.dtype": "float32"}, "model.max_model_len"),
    ],
)
def test_a_pin_that_takes_the_ram_of_a_cpu_run_is_named_with_what_fits(settings: dict[str, Any], key: str) -> None:
    ram_gib = 18 if key.startswith("memory") else 31.5
    problem = _problem(plan_of(Q7, settings=settings, ram_gib=ram_gib), "host_oom")
    assert (problem.key, problem.value, problem.origin) == (key, settings[key], "command line")
    fitting = float(str(problem.remedy).split("=")[1].split()[0])
    value = int(fitting) if key.startswith("model") else fitting
    assert plan_of(Q7, settings={**settings, key: value}, ram_gib=ram_gib).fits


def test_a_model_that_is_too_large_for_a_cpu_is_not_told_to_be_shorter() -> None:
    problem = _problem(plan_of(L70), "host_oom")
    assert problem.key == RAM
    assert "shorter" not in str(problem.remedy)
