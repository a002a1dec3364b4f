"""Pinned settings that a plan has no use for: told instead of dropped without a word."""

from __future__ import annotations

from dataclasses import replace

from nexus_orch.errors import Problem
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


OFFLOAD_SETTINGS = frozenset({"memory.cpu_offload_gib", "memory.offload_backend"})
"""A plan that offloads honours both, even where one says the other: an amount becomes groups of layers to prefetch, and
releases before 0.19.1 have no name for their only back end."""


def with_unused_pins(plan: Plan) -> Plan:
    """The plan, refused when it leaves out a setting that asks for something (neither null, false nor 0)."""
    used = set(plan.settings)
    if any(gpu.offloaded_bytes for gpu in plan.per_gpu):
        used |= OFFLOAD_SETTINGS
    problems = tuple(
        Problem(
            f"this run has no use for it: the strategy is {plan.loader}",
            key=key,
            value=plan.spec.get(key),
            origin=plan.spec.origin(key),
            remedy=f"{key}=null",
        )
        for key in ENGINE_SETTINGS
        if plan.spec.get(key) and key not in used
    )
    return replace(plan, fits=False, problems=(*plan.problems, *problems)) if problems else plan
