"""Rules over several settings that more than one adapter needs."""

from __future__ import annotations

from nexus_orch.adapt.settings import OMP_VARIABLE
from nexus_orch.adapt.ways import V1_VARIABLE, Part
from nexus_orch.errors import Problem
from nexus_orch.releases.engine import v1_only
from nexus_orch.types import EngineFacts, Plan

API_KEY_VARIABLE = "VLLM_API_KEY"
"""Read by every release from 0.4.3 to 0.33.0, so that the key need not stand on the command line."""

_WORDS = ("all", "auto", "nobind")
"""What vLLM takes besides lists of cores (the CPU workers of 0.5.5 to 0.33.0)."""


def guard_api_key(plan: Plan, engine: EngineFacts) -> Part:
    """The API key goes to the engine in a variable; only the name of the user's variable is known here."""
    source = plan.settings.get("serve.api_key_env") or plan.spec.serve.api_key_env
    if not source:
        return Part()
    if API_KEY_VARIABLE in plan.spec.engine.env:
        key = f"engine.env.{API_KEY_VARIABLE}"
        remedy = "keep serve.api_key_env: what stands in engine.env is written down"
        return Part(problems=[Problem("the API key is given twice", key, None, plan.spec.origin(key), remedy)])
    return Part(secret_env={API_KEY_VARIABLE: source}, said={"--api-key": "serve.api_key_env"})


def guard_cpu_threads(plan: Plan, engine: EngineFacts) -> Part:
    """Several ranks on one NUMA node start only when each is told its cores (0.32.0: `auto` binds a node per rank)."""
    ranks = (plan.settings.get("serve.tensor_parallel") or 1) * (plan.settings.get("serve.pipeline_parallel") or 1)
    if engine.device != "cpu":
        return Part()
    binding = plan.settings.get("serve.cpu_threads_bind") or plan.spec.engine.env.get(OMP_VARIABLE)
    if binding is None:
        return Part() if ranks == 1 else Part(problems=[_name_cores(plan, ranks)])
    named = str(binding).count("|") + 1
    if named == ranks or binding in _WORDS:
        return Part()
    key = "serve.cpu_threads_bind" if plan.choice("serve.cpu_threads_bind") else f"engine.env.{OMP_VARIABLE}"
    message = f"the cores of {named} ranks are named, and there are {ranks}"
    remedy = f"{key}='{_example(ranks)}' (cores of rank 0|rank 1 ...)"
    return Part(problems=[Problem(message, key, binding, plan.spec.origin(key), remedy, "cpu_binding")])


def _name_cores(plan: Plan, ranks: int) -> Problem:
    key = max(("serve.tensor_parallel", "serve.pipeline_parallel"), key=lambda name: plan.settings.get(name) or 1)
    return Problem(
        f"{ranks} ranks on the CPU engine need their cores named, or a NUMA node each",
        key,
        plan.settings.get(key),
        plan.spec.origin(key),
        f"serve.cpu_threads_bind='{_example(ranks)}' (cores of rank 0|rank 1 ...)",
        "cpu_binding",
    )


def _example(ranks: int) -> str:
    return "|".join(f"{4 * rank}-{4 * rank + 3}" for rank in range(ranks))


def guard_old_engine(plan: Plan, engine: EngineFacts) -> Part:
    """Asking for the V0 engine where there is none is told: the variable does nothing."""
    if plan.spec.engine.env.get(V1_VARIABLE) != "0" or not v1_only(engine.version):
        return Part()
    key = f"engine.env.{V1_VARIABLE}"
    message = f"vLLM {engine.version} has no V0 engine: the variable does nothing since {v1_only.since}"
    remedy = f"leave it out, or use vLLM before {v1_only.since}"
    return Part(problems=[Problem(message, key, "0", plan.spec.origin(key), remedy)])
