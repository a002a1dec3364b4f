"""What would relieve a server that is short of memory: changes worth a try, by what was observed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nexus_orch.plan.search.variations import Base, vary
from nexus_orch.types import GIB, Facts, Finding, Plan, Variation

LEAST_GROWTH, MOST_GROWTH = 1.25, 2.0
"""How many times larger a KV cache is made, by the requests that wait."""
USAGE_MARGIN = 1.25
"""Room left above the highest usage of the KV cache when it is made smaller."""
CPU_STEP_GIB = 1.0
"""A KV cache of the CPU engine is moved by whole GiB: releases before 0.22 take no others."""


def find_relief(finding: Finding, plan: Plan, facts: Facts) -> tuple[Variation, ...]:
    """The changes that could relieve this lack; whether they fit and help is for their plans to say."""
    base = Base(plan.spec, facts, plan)
    return tuple(_relieve_ram(finding, base, plan) if finding.is_about_ram else _relieve_cache(finding, base, plan))


def _relieve_cache(finding: Finding, base: Base, plan: Plan) -> Iterator[Variation]:
    """Changes that give more KV cache to the requests that were seen, or take more requests at once where the bus is
    the limit."""
    wanted = (finding.running + finding.waiting) / max(1.0, finding.running)
    growth = min(MOST_GROWTH, max(LEAST_GROWTH, wanted))
    if finding.kind == "bus_bound":
        yield from vary("requests_at_once", base, [2 * max(1, math.ceil(finding.running))])
    size = base.planned("memory.kv_cache.size_gib")
    if size is not None:
        yield from vary("cache_size", base, [_whole_steps(float(size) * growth)])
    yield from vary("narrow_cache", base)
    yield from vary("larger_share", base)
    yield from vary("smaller_batch", base)
    if finding.kind != "bus_bound":
        more = max(card.offloaded_bytes + (growth - 1) * card.kv_cache_bytes for card in plan.per_gpu)
        yield from vary("offloaded_amount", base, [_hundredths(more)])


def _relieve_ram(finding: Finding, base: Base, plan: Plan) -> Iterator[Variation]:
    """Changes that take less host RAM: no room is made for KV cache that was never used."""
    unused = max(0.0, 1.0 - finding.peak_kv_cache_usage * USAGE_MARGIN)
    size = float(base.planned("memory.kv_cache.size_gib") or 0)
    if 0 < (smaller := _whole_steps(size * (1 - unused))) < size:
        yield from vary("cache_size", base, [smaller])
    yield from vary("narrow_cache", base)
    if any(card.offloaded_bytes for card in plan.per_gpu) and unused:
        less = max(card.offloaded_bytes - unused * card.kv_cache_bytes for card in plan.per_gpu)
        yield from vary("offloaded_amount", base, [_hundredths(max(0.0, less))])


def _whole_steps(gib: float) -> float:
    return math.ceil(gib / CPU_STEP_GIB) * CPU_STEP_GIB


def _hundredths(size_bytes: float) -> float:
    """GiB, rounded up to a hundredth."""
    return math.ceil(size_bytes / GIB * 100) / 100
