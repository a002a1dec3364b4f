"""Rules for runs that keep weights in host RAM, and for WSL, where host RAM is pinned only on request."""

from __future__ import annotations

from nexus_orch.adapt.arguments import read_arguments
from nexus_orch.adapt.ways import Part
from nexus_orch.errors import Problem
from nexus_orch.plan.answer.ram_first import reads_ahead
from nexus_orch.plan.release.offloading import has_option
from nexus_orch.releases.engine import (
    chooses_second_runner,
    second_runner_ignores_weights,
    second_runner_needs_pinning,
)
from nexus_orch.releases.fact import Fact
from nexus_orch.releases.models import chooses_load_strategy
from nexus_orch.types import Choice, EngineFacts, Plan

RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"

LOAD_STRATEGY_FLAG = "--safetensors-load-strategy"


_OFFLOADING = ("--cpu-offload-gb", "--offload-group-size")


def offloads_weights(plan: Plan, engine: EngineFacts) -> bool:
    """True when weights stay in host RAM, by whichever mechanism: by the plan, or by the user's extra arguments."""
    if engine.device == "cpu":
        return False
    by_plan = plan.settings.get("memory.cpu_offload_gib") or plan.settings.get("memory.prefetch.group_size")
    return bool(by_plan) or any(gives(plan, engine, option) for option in _OFFLOADING)


def guard_model_runner(plan: Plan, engine: EngineFacts) -> Part:
    """Where the second model runner cannot do what the plan needs, the first one is asked for, unless the release takes
    that one anyway."""
    fault = _fault_of_runner(plan, engine)
    if engine.device == "cpu" or fault is None:
        return Part()
    reason, fact = fault
    key = f"engine.env.{RUNNER_VARIABLE}"
    given = plan.spec.engine.env.get(RUNNER_VARIABLE)
    if given is None:
        if not chooses_second_runner(engine.version):
            return Part()
        return Part(env={RUNNER_VARIABLE: "0"}, choices=[Choice(key, "0", "derived", reason)])
    if given.strip().lower() in ("0", "false"):
        return Part()
    problem = Problem(
        reason,
        key=key,
        value=given,
        origin=plan.spec.origin(key) or plan.spec.origin("engine.env"),
        remedy=f"{key}=0, or vLLM {fact.before} or later",
        cause="offload_ignored" if offloads_weights(plan, engine) else "pinned_memory_unavailable",
    )
    return Part(problems=[problem])


def _fault_of_runner(plan: Plan, engine: EngineFacts) -> tuple[str, Fact] | None:
    """Why the plan does not go with the second model runner of this release, and the fact behind that."""
    runner = f"the second model runner of vLLM {engine.version}"
    if offloads_weights(plan, engine) and second_runner_ignores_weights(engine.version):
        return f"{runner} ignores offloading without a word", second_runner_ignores_weights
    if plan.settings.get("memory.pin_host") and second_runner_needs_pinning(engine.version):
        reason = f"{runner} needs pinned memory, which this release does not give under WSL"
        return reason, second_runner_needs_pinning
    return None


def guard_load_strategy(plan: Plan, engine: EngineFacts) -> Part:
    """Checkpoint files that are in RAM already, or that share it with weights, are read as they are needed.

    Newer releases read whole checkpoints ahead by themselves when they lie on a network file system; before, `lazy` was
    the default, and once the only way.
    """
    preloads = reads_ahead(plan)
    shares_ram = offloads_weights(plan, engine)
    flag = engine.option(LOAD_STRATEGY_FLAG)
    has_it = flag is not None and has_option(engine, LOAD_STRATEGY_FLAG, chooses_load_strategy)
    if flag is None or not has_it or flag.default == "lazy" or not (preloads or shares_ram):
        return Part()
    if gives(plan, engine, LOAD_STRATEGY_FLAG):
        return Part()
    why = "the files were read into RAM before" if preloads else "RAM is for the weights that stay there"
    reason = f"{why}: vLLM need not read them ahead"
    choice = Choice("memory.load_strategy", "lazy", "derived", reason)
    return Part(argv=[flag.name, "lazy"], choices=[choice], said={flag.name: choice.key})


def gives(plan: Plan, engine: EngineFacts, option: str) -> bool:
    """Whether the user's extra arguments give this option in any of its spellings."""
    wanted = engine.option(option)
    given = read_arguments(plan.spec.serve.extra_args, engine).options
    return wanted is not None and any(argument.flag == wanted for argument in given)
