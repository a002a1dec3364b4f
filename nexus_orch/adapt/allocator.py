"""What PyTorch's allocators are told where weights leave the card: of the card's memory, and of the pinned memory of
the host, which PyTorch otherwise takes in powers of two and with one thread."""

from __future__ import annotations

from nexus_orch.adapt.offload_guards import gives, offloads_weights
from nexus_orch.adapt.ways import Part
from nexus_orch.errors import Problem
from nexus_orch.plan.release.pinning import (
    ALLOCATOR_VARIABLES,
    CONNECTORS,
    EXACTLY,
    EXPANDABLE,
    can_pin_exactly,
    grows_segments,
)
from nexus_orch.releases.allocator import connector_refuses_segments
from nexus_orch.types import Choice, EngineFacts, Plan

VARIABLE = ALLOCATOR_VARIABLES[0]
"""torch 2.9 brought PYTORCH_ALLOC_CONF, but its CUDA allocator read `expandable_segments` from the old name only
(pytorch/pytorch#183387). Later ones take both: the old name is the one that every release understands."""


IN_PARALLEL = "pinned_use_cuda_host_register:True,pinned_num_register_threads:8"
"""6.4 GB are pinned in 1.3 s so, in 3.1 s otherwise, and copied from as fast (54.9 and 55.3 GB/s; torch 2.11 on an
H200). Launches that copied ahead ran with it (docs/measurements.md); reading in place with it was not tried."""


def guard_allocator(plan: Plan, engine: EngineFacts) -> Part:
    """Options for a run that keeps weights in host RAM; what the user says of the allocator stands."""
    given = next((name for name in ALLOCATOR_VARIABLES if name in plan.spec.engine.env), None)
    if given is not None:
        return _judge(plan, engine, given)
    if not offloads_weights(plan, engine):
        return Part()
    options, reasons = [], []
    if _may_grow(plan, engine):
        options.append(EXPANDABLE)
        reasons.append("the card is filled to the brim: torch can then use free memory that lies in pieces")
    if _copies_ahead(plan, engine):
        options.append(IN_PARALLEL)
        reasons.append("weights are pinned by several threads, more than twice as fast")
    if can_pin_exactly(engine):
        options.append(EXACTLY)
        reasons.append("pinned memory is neither rounded up to powers of two nor kept when it is freed")
    if not options:
        return Part()
    value = ",".join(options)
    choice = Choice(f"engine.env.{VARIABLE}", value, "derived", "; ".join(reasons))
    return Part(env={VARIABLE: value}, choices=[choice])


def _may_grow(plan: Plan, engine: EngineFacts) -> bool:
    """Whether the plan counts on expandable segments."""
    return grows_segments(
        engine,
        plan.spec.engine.env,
        plan.spec.serve.extra_args,
        tensor_parallel=(plan.settings.get("serve.tensor_parallel") or 1)
        * (plan.settings.get("serve.data_parallel") or 1),
        is_wsl=bool(plan.settings.get("memory.pin_host")),
        has_connector=_has_connector(plan, engine),
    )


def _copies_ahead(plan: Plan, engine: EngineFacts) -> bool:
    """Whether layers are prefetched, from memory that may be registered: under WSL that is not known."""
    prefetches = plan.settings.get("memory.prefetch.group_size") or gives(plan, engine, "--offload-group-size")
    return bool(prefetches) and not plan.settings.get("memory.pin_host")


def _judge(plan: Plan, engine: EngineFacts, variable: str) -> Part:
    """The user's own settings of the allocator stand, unless vLLM is sure to end the start because of them."""
    value = plan.spec.engine.env[variable]
    is_seen = variable == VARIABLE and EXPANDABLE in value and connector_refuses_segments(engine.version)
    if not is_seen or not _has_connector(plan, engine) or gives(plan, engine, "--enable-sleep-mode"):
        return Part()
    key = f"engine.env.{variable}"
    message = f"vLLM {engine.version} refuses expandable segments beside a KV connector, which KV offload is"
    remedy = f"leave {key} or the KV offload out"
    return Part(problems=[Problem(message, key, value, plan.spec.origin(key), remedy)])


def _has_connector(plan: Plan, engine: EngineFacts) -> bool:
    by_plan = plan.settings.get("memory.kv_offload_gib") or plan.settings.get("memory.kv_offload_dir")
    return bool(by_plan) or any(gives(plan, engine, option) for option in CONNECTORS)
