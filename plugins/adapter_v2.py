"""vLLM 0.20 and later: the V1 engine with the second model runner, which several releases choose by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.specifiers import SpecifierSet

from nexus_orch import hookimpl
from nexus_orch.adapt.guards import guard_api_key, guard_cpu_threads, offloads_weights
from nexus_orch.adapt.render import TableAdapter
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.adapt.ways import Part
from nexus_orch.contracts import Adapter
from nexus_orch.errors import Problem
from nexus_orch.facts.flags_catalogue import release_of
from nexus_orch.types import Choice, EngineFacts, Plan

RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"

RUNNER_IGNORES_OFFLOAD = SpecifierSet(">=0.20,<0.28")
"""v1/worker/gpu/model_runner.py installs no offloader in 0.22.1, 0.25.1 and 0.27.1 and does in 0.28.0; on an H100 with
0.25.1 both backends loaded all weights without a word."""


def guard_offload(plan: Plan, engine: EngineFacts) -> Part:
    """Where the second model runner ignores offloading, the first one is asked for."""
    release = release_of(engine.version)
    if engine.device == "cpu" or not offloads_weights(plan) or release not in RUNNER_IGNORES_OFFLOAD:
        return Part()
    key = f"engine.env.{RUNNER_VARIABLE}"
    given = plan.spec.engine.env.get(RUNNER_VARIABLE)
    if given is None:
        reason = f"the second model runner of vLLM {engine.version} ignores offloading without a word"
        return Part(env={RUNNER_VARIABLE: "0"}, choices=[Choice(key, "0", "derived", reason)])
    if given.strip().lower() in ("0", "false"):
        return Part()
    problem = Problem(
        f"the second model runner of vLLM {engine.version} ignores offloading without a word",
        key=key,
        value=given,
        origin=plan.spec.origin(key) or plan.spec.origin("engine.env"),
        remedy=f"{key}=0, or vLLM 0.28 or later",
        cause="offload_ignored",
    )
    return Part(problems=[problem])


ADAPTER = TableAdapter(
    name="v2",
    versions=SpecifierSet(">=0.20"),
    table=SETTINGS,
    guards=(guard_offload, guard_api_key, guard_cpu_threads),
)


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [ADAPTER]
