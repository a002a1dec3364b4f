"""Pinned settings that a plan has no use for: told instead of dropped without a word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from nexus_orch.errors import Problem, render_value
from nexus_orch.types import Plan

ENGINE_SETTINGS = (
    "model.dtype",
    "model.quantization",
    "model.max_model_len",
    "memory.gpu_memory_utilization",
    "memory.cpu_offload_gib",
    "memory.offload_backend",
    "memory.offload_params",
    "memory.kv_offload_gib",
    "memory.kv_offload_dir",
    "memory.swap_gib",
    "memory.enforce_eager",
    "memory.kv_cache.dtype",
    "memory.kv_cache.block_size",
    "memory.kv_cache.max_blocks",
    "memory.kv_cache.size_gib",
    "memory.kv_cache.calculate_scales",
    "serve.tensor_parallel",
    "serve.pipeline_parallel",
    "serve.pipeline_partition",
    "serve.max_num_seqs",
    "serve.max_num_batched_tokens",
)
"""The settings that are meant for the engine: each one that is pinned must become a choice of the plan."""

WAYS_OF_OFFLOADING = ("memory.offload_backend", "memory.offload_params")
"""Settings that say how weights leave the cards, if they do: a profile may say that for every model, also for one that
fits."""


def with_unused_pins(plan: Plan, honours: Collection[str] = ()) -> Plan:
    """The plan, refused when it leaves out a setting that asks for something (neither null, false nor 0); with a note
    where the setting says how something is done that this run need not do. `honours` are settings that a plan which
    offloads does justice to without naming them."""
    unused = _find_unused(plan, honours)
    stays = plan.loader != "cpu" and plan.per_gpu and not any(gpu.offloaded_bytes for gpu in plan.per_gpu)
    idle = [key for key in unused if key in WAYS_OF_OFFLOADING and stays]
    problems = tuple(_make_problem(plan, key) for key in unused if key not in idle)
    plan = replace(plan, fits=False, problems=(*plan.problems, *problems)) if problems else plan
    if not idle or plan.problems:  # what is wrong comes first: why nothing is offloaded is no news beside it
        return plan
    notes = (f"{key}={render_value(plan.spec.get(key))} has no use: all weights fit on the cards" for key in idle)
    return replace(plan, notes=(*plan.notes, *notes))


def _find_unused(plan: Plan, honours: Collection[str]) -> list[str]:
    """The pinned settings of the engine that are no choice of the plan."""
    used = set(plan.settings)
    if any(gpu.offloaded_bytes for gpu in plan.per_gpu):
        used.update(honours)
    return [key for key in ENGINE_SETTINGS if plan.spec.get(key) and key not in used]


def _make_problem(plan: Plan, key: str) -> Problem:
    is_cpu = plan.loader == "cpu"
    return Problem(
        f"this run has no use for it: {'it is on the CPU engine' if is_cpu else f'the strategy is {plan.loader}'}",
        key=key,
        value=plan.spec.get(key),
        origin=plan.spec.origin(key),
        remedy=f"{key}=auto",
        is_mistake=True,
    )
