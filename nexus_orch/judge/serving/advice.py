"""What would relieve a server that is short of memory: settings worth trying, and whether a plan with one is better.

Nothing is known here of how plans are made: `propose` names changes, the session plans the run again with each of them,
and `judge_gain` compares the two plans by what was observed. A change counts only with a margin, and a setting that was
moved one way is never moved back, so that adjustments end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nexus_orch.errors import render_value
from nexus_orch.judge.serving.pressure import Finding, PressureKind
from nexus_orch.types import GIB, Facts, Lesson, Plan

LEAST_GAIN, LEAST_RAM_GAIN = 1.2, 1.1
"""How much better a plan must be, in requests times speed, or in host RAM: less is within the error of a plan."""
LARGEST_UTILIZATION = 0.95
LEAN_BATCHED_TOKENS = 2048
USAGE_MARGIN = 1.25
"""Room left above the highest usage of the KV cache when it is made smaller."""
CPU_STEP_GIB = 1.0
"""A KV cache of the CPU engine is moved by whole GiB: releases before 0.22 take no others."""
ENGINE_MOST_REQUESTS = 256
"""Requests at once where serve.max_num_seqs is left to the engine: its smallest default on GPUs."""

OFFLOAD = "memory.cpu_offload_gib"

_UNMOVED = ("serve.port",)


@dataclass(frozen=True)
class Proposal:
    """One setting to try instead of the planned value."""

    key: str
    value: Any
    price: str = ""
    """What the numbers of a plan do not show."""

    @property
    def override(self) -> str:
        value = f"{self.value:g}" if isinstance(self.value, float) else render_value(self.value)
        return f"{self.key}={value}"


@dataclass(frozen=True)
class Gain:
    """How much better a plan is (1.0 is the same), and in words."""

    factor: float
    effect: str


@dataclass(frozen=True)
class Advice:
    """What was found, and what would help. `lesson` is set when the session will restart the server with it."""

    kind: PressureKind
    evidence: str
    change: str = ""
    """As an override for the command line; empty when no change of the plan helps."""
    effect: str = ""
    lesson: Lesson | None = None

    @property
    def text(self) -> str:
        """In one sentence."""
        if not self.change:
            return f"{self.evidence}; {self.effect}"
        return f"{self.evidence}; {self.change} {self.effect}"


def propose(finding: Finding, plan: Plan, facts: Facts) -> tuple[Proposal, ...]:
    """The changes that could relieve this lack; whether they fit and help is for their plans to say."""
    find = _for_ram if finding.kind in ("ram_low", "swapping") else _for_cache
    found = find(finding, plan, facts)
    return tuple(proposal for proposal in found if plan.settings.get(proposal.key) != proposal.value)


def takes(plan: Plan, proposal: Proposal) -> bool:
    """Whether a plan that was made with the proposal follows it, and the engine's release did not make it drop it."""
    if proposal.key == OFFLOAD:  # prefetch moves whole layers, and the plan shows these instead
        return proposal.value == 0 or any(card.offloaded_bytes for card in plan.per_gpu)
    return bool(plan.settings.get(proposal.key) == proposal.value)


def judge_gain(finding: Finding, before: Plan, after: Plan) -> Gain | None:
    """How much better the plan `after` would serve what was observed; None when not by the margin."""
    if not after.fits or after.prediction.borderline:
        return None
    if finding.kind in ("ram_low", "swapping"):
        return _ram_gain(before, after)
    return _capacity_gain(finding, before, after)


def make_moves(before: Plan, after: Plan) -> dict[str, int]:
    """In which direction each setting goes from one plan to the other: 1 up, -1 down, 0 for what has no order."""
    old, new = before.settings, after.settings
    changed = (key for key in {*old, *new} if old.get(key) != new.get(key) and key not in _UNMOVED)
    return {key: _direction(old.get(key), new.get(key)) for key in changed}


def contradicts(moved: Mapping[str, int], moves: Mapping[str, int]) -> bool:
    """Whether a setting that was moved would go back; what has no order moves once."""
    return any(moved[key] * moves[key] <= 0 for key in moved.keys() & moves.keys())


def describe_helpless(finding: Finding) -> str:
    """What to do when no other plan is better."""
    match finding.kind:
        case "preemptions":
            fewer = max(1, math.floor(finding.running))
            instead = f"serve.max_num_seqs={fewer} lets requests wait instead of preempting them"
            return f"no other plan serves {LEAST_GAIN - 1:.0%} more; {instead}"
        case "kv_cache_full":
            would = "shorter contexts, a smaller model or more cards would"
            return f"no other plan serves {LEAST_GAIN - 1:.0%} more: {would}"
        case "bus_bound":
            would = "fewer weights in host RAM would, with a smaller model or more cards"
            return f"no other plan serves {LEAST_GAIN - 1:.0%} more: {would}"
        case "ram_low" | "swapping":
            return "no other plan takes less RAM: end what else runs on this machine"


def _direction(old: Any, new: Any) -> int:
    if not _is_number(old) or not _is_number(new):
        return 0
    return 1 if new > old else -1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _for_cache(finding: Finding, plan: Plan, facts: Facts) -> Iterator[Proposal]:
    """More KV cache for the requests that were seen, or more requests at once where the bus is the limit."""
    wanted = min(2.0, max(1.25, (finding.running + finding.waiting) / max(1.0, finding.running)))
    if finding.kind == "bus_bound":
        yield Proposal("serve.max_num_seqs", 2 * max(1, math.ceil(finding.running)))
    if not facts.machine.gpus or facts.engine.device == "cpu":
        size = plan.settings.get("memory.kv_cache.size_gib")
        if size is not None:
            yield Proposal("memory.kv_cache.size_gib", math.ceil(float(size) * wanted / CPU_STEP_GIB) * CPU_STEP_GIB)
        return
    yield from _narrow_cache(plan, facts)
    if float(plan.settings.get("memory.gpu_memory_utilization") or 1.0) < LARGEST_UTILIZATION:
        yield Proposal("memory.gpu_memory_utilization", LARGEST_UTILIZATION)
    if float(plan.settings.get("serve.max_num_batched_tokens") or math.inf) > LEAN_BATCHED_TOKENS:
        yield Proposal("serve.max_num_batched_tokens", LEAN_BATCHED_TOKENS)
    if finding.kind != "bus_bound":
        more = max(card.offloaded_bytes + (wanted - 1) * card.kv_cache_bytes for card in plan.per_gpu)
        yield Proposal(OFFLOAD, math.ceil(more / GIB * 100) / 100)


def _for_ram(finding: Finding, plan: Plan, facts: Facts) -> Iterator[Proposal]:
    """Less in host RAM: what the KV cache never used need not be made room for."""
    unused = max(0.0, 1.0 - finding.peak_kv_cache_usage * USAGE_MARGIN)
    if not facts.machine.gpus or facts.engine.device == "cpu":
        size = float(plan.settings.get("memory.kv_cache.size_gib") or 0)
        smaller = math.ceil(size * (1 - unused) / CPU_STEP_GIB) * CPU_STEP_GIB
        if 0 < smaller < size:
            yield Proposal("memory.kv_cache.size_gib", smaller)
        return
    yield from _narrow_cache(plan, facts)
    less = max((card.offloaded_bytes - unused * card.kv_cache_bytes for card in plan.per_gpu), default=0.0)
    if any(card.offloaded_bytes for card in plan.per_gpu) and unused:
        yield Proposal(OFFLOAD, math.ceil(max(0.0, less) / GIB * 100) / 100)


def _narrow_cache(plan: Plan, facts: Facts) -> Iterator[Proposal]:
    is_wide = plan.settings.get("memory.kv_cache.dtype") in (None, "auto", plan.settings.get("model.dtype"))
    if is_wide and all(gpu.supports_fp8 for gpu in facts.machine.gpus):
        yield Proposal("memory.kv_cache.dtype", "fp8", "keys and values are rounded to 8 bits")


def _capacity_gain(finding: Finding, before: Plan, after: Plan) -> Gain | None:
    """Requests that are held at once times the speed of each, at most what was asked for."""
    if not before.kv_cache_tokens or not finding.running:
        return None
    each = before.kv_cache_tokens * max(finding.kv_cache_usage, 0.01) / finding.running
    speeds = (before.prediction.decode_tokens_per_second, after.prediction.decode_tokens_per_second)
    old_speed, new_speed = speeds if all(speeds) else (None, None)
    old = _served(before, each, finding) * (old_speed or 1.0)
    new = _served(after, each, finding) * (new_speed or 1.0)
    if new < LEAST_GAIN * old:
        return None
    held = min(after.kv_cache_tokens / each, _most_requests(after))
    had = min(before.kv_cache_tokens / each, _most_requests(before))
    effect = f"would hold {held:.0f} requests instead of {had:.0f}"
    if old_speed and new_speed and abs(new_speed / old_speed - 1) >= 0.01:
        effect += f", one alone at {new_speed:.1f} instead of {old_speed:.1f} tokens/s"
    return Gain(new / old, effect)


def _served(plan: Plan, tokens_each: float, finding: Finding) -> float:
    """Requests at once: what the cache holds, the engine takes, and the clients want."""
    return min(plan.kv_cache_tokens / tokens_each, _most_requests(plan), finding.running + finding.waiting)


def _most_requests(plan: Plan) -> float:
    return float(plan.settings.get("serve.max_num_seqs") or ENGINE_MOST_REQUESTS)


def _ram_gain(before: Plan, after: Plan) -> Gain | None:
    old, new = before.host.required_bytes, after.host.required_bytes
    if not new or old < LEAST_RAM_GAIN * new:
        return None
    effect = f"would take {new / GIB:.1f} GiB of RAM instead of {old / GIB:.1f}"
    return Gain(old / new, effect)
