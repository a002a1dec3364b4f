"""Rules for runs that keep weights in host RAM, and for WSL, where host RAM is pinned only on request."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.arguments import read_arguments
from nexus_orch.adapt.ways import Part, find_release
from nexus_orch.errors import Problem
from nexus_orch.plan.answer.ram_first import reads_ahead
from nexus_orch.types import Choice, EngineFacts, Plan

RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"

RUNNER_IGNORES_OFFLOAD = SpecifierSet(">=0.20,<0.28")
"""v1/worker/gpu/model_runner.py installs no offloader in 0.22.1, 0.25.1 and 0.27.1 and does in 0.28.0; on an H100 with
0.25.1 both backends loaded all weights without a word."""

RUNNER_NEEDS_PINNING = SpecifierSet(">=0.20,<0.25.1")
"""v1/worker/gpu/buffer_utils.py raises "UVA is not available" without pinned memory, and the variable that allows it
under WSL came with 0.25.1 (platforms/cuda.py)."""

LOAD_STRATEGY_FLAG = "--safetensors-load-strategy"


_OFFLOADING = ("--cpu-offload-gb", "--offload-group-size")


def offloads_weights(plan: Plan, engine: EngineFacts) -> bool:
    """True when weights stay in host RAM, by whichever mechanism: by the plan, or by the user's extra arguments."""
    if engine.device == "cpu":
        return False
    by_plan = plan.settings.get("memory.cpu_offload_gib") or plan.settings.get("memory.prefetch.group_size")
    return bool(by_plan) or any(gives(plan, engine, option) for option in _OFFLOADING)


def guard_model_runner(plan: Plan, engine: EngineFacts) -> Part:
    """Where the second model runner cannot do what the plan needs, the first one is asked for."""
    reason = _fault_of_runner(plan, engine)
    if engine.device == "cpu" or reason is None:
        return Part()
    key = f"engine.env.{RUNNER_VARIABLE}"
    given = plan.spec.engine.env.get(RUNNER_VARIABLE)
    if given is None:
        return Part(env={RUNNER_VARIABLE: "0"}, choices=[Choice(key, "0", "derived", reason)])
    if given.strip().lower() in ("0", "false"):
        return Part()
    problem = Problem(
        reason,
        key=key,
        value=given,
        origin=plan.spec.origin(key) or plan.spec.origin("engine.env"),
        remedy=f"{key}=0, or vLLM 0.28 or later",
        cause="offload_ignored" if offloads_weights(plan, engine) else "pinned_memory_unavailable",
    )
    return Part(problems=[problem])


def _fault_of_runner(plan: Plan, engine: EngineFacts) -> str | None:
    release = find_release(engine)
    runner = f"the second model runner of vLLM {engine.version}"
    if offloads_weights(plan, engine) and release in RUNNER_IGNORES_OFFLOAD:
        return f"{runner} ignores offloading without a word"
    if plan.settings.get("memory.pin_host") and release in RUNNER_NEEDS_PINNING:
        return f"{runner} needs pinned memory, which this release does not give under WSL"
    return None


def guard_load_strategy(plan: Plan, engine: EngineFacts) -> Part:
    """Checkpoint files that are in RAM already, or that share it with weights, are read as they are needed.

    From 0.19.1 on vLLM reads whole checkpoints ahead by itself when they lie on a network file system; before, `lazy`
    was the default, and the only way before 0.10.2 (model_executor/model_loader/weight_utils.py).
    """
    preloads = reads_ahead(plan)
    shares_ram = offloads_weights(plan, engine)
    flag = engine.flag(LOAD_STRATEGY_FLAG)
    if flag is None or flag.default == "lazy" or not (preloads or shares_ram):
        return Part()
    if gives(plan, engine, LOAD_STRATEGY_FLAG):
        return Part()
    why = "the files were read into RAM before" if preloads else "RAM is for the weights that stay there"
    reason = f"{why}: vLLM need not read them ahead"
    choice = Choice("memory.load_strategy", "lazy", "derived", reason)
    return Part(argv=[flag.name, "lazy"], choices=[choice], said={flag.name: choice.key})


def gives(plan: Plan, engine: EngineFacts, option: str) -> bool:
    """Whether the user's extra arguments give this option in any of its spellings."""
    given = read_arguments(plan.spec.serve.extra_args, engine).options
    return any(argument.flag is not None and argument.flag.name == option for argument in given)
