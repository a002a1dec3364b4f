"""Rules over several settings that more than one adapter needs."""

from __future__ import annotations

from nexus_orch.adapt.ways import Part
from nexus_orch.errors import Problem
from nexus_orch.types import EngineFacts, Plan

API_KEY_VARIABLE = "VLLM_API_KEY"
"""Read by every release from 0.4.3 to 0.33.0, so that the key need not stand on the command line."""

_OMP_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"


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
    if engine.device != "cpu" or ranks == 1 or _OMP_VARIABLE in plan.spec.engine.env:
        return Part()
    binding = plan.settings.get("serve.cpu_threads_bind")
    if binding is not None:
        return Part(env={_OMP_VARIABLE: str(binding)})
    example = "|".join(f"{4 * rank}-{4 * rank + 3}" for rank in range(ranks))
    key = max(("serve.tensor_parallel", "serve.pipeline_parallel"), key=lambda name: plan.settings.get(name) or 1)
    problem = Problem(
        f"{ranks} ranks on the CPU engine need their cores named, or a NUMA node each",
        key,
        plan.settings.get(key),
        plan.spec.origin(key),
        f"engine.env.{_OMP_VARIABLE}='{example}' (cores of rank 0|rank 1 ...)",
        "cpu_binding",
    )
    return Part(problems=[problem])


def offloads_weights(plan: Plan) -> bool:
    """True when the plan keeps weights in host RAM, by whichever mechanism."""
    return bool(plan.settings.get("memory.cpu_offload_gib") or plan.settings.get("memory.prefetch.group_size"))
