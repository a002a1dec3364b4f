"""Whether another plan would serve better where a server is short of memory, and what to advise then.

Nothing is known here of how plans are made: the planner names changes (`nexus_orch.plan.nearby.relief`), the session
plans the run again with each of them, and `judge_gain` compares the two plans by what was observed. A change counts
only with a margin, and a setting that was moved one way is never moved back, so that adjustments end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexus_orch.types import GIB, Finding, Lesson, Plan, PressureKind, Variation

LEAST_GAIN, LEAST_RAM_GAIN = 1.2, 1.1
"""How much better a plan must be, in requests times speed, or in host RAM: less is within the error of a plan."""

OFFLOAD = "memory.cpu_offload_gib"

_UNMOVED = ("serve.port",)


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


def takes(plan: Plan, variation: Variation) -> bool:
    """Whether a plan that was made with the change follows it, and the engine's release did not make it drop it."""
    return all(_takes_value(plan, key, value) for key, value in variation.values.items())


def _takes_value(plan: Plan, key: str, value: Any) -> bool:
    if key == OFFLOAD:  # prefetch moves whole layers, and the plan shows these instead
        return bool(value == 0) or any(card.offloaded_bytes for card in plan.per_gpu)
    return bool(plan.settings.get(key) == value)


def judge_gain(finding: Finding, before: Plan, after: Plan) -> Gain | None:
    """How much better the plan `after` would serve what was observed; None when not by the margin."""
    if not after.fits or after.prediction.borderline:
        return None
    if finding.is_about_ram:
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
    held = min(after.kv_cache_tokens / each, after.most_requests)
    had = min(before.kv_cache_tokens / each, before.most_requests)
    effect = f"would hold {held:.0f} requests instead of {had:.0f}"
    if old_speed and new_speed and abs(new_speed / old_speed - 1) >= 0.01:
        effect += f", one alone at {new_speed:.1f} instead of {old_speed:.1f} tokens/s"
    return Gain(new / old, effect)


def _served(plan: Plan, tokens_each: float, finding: Finding) -> float:
    """Requests at once: what the cache holds, the engine takes, and the clients want."""
    return min(plan.kv_cache_tokens / tokens_each, plan.most_requests, finding.running + finding.waiting)


def _ram_gain(before: Plan, after: Plan) -> Gain | None:
    old, new = before.host.required_bytes, after.host.required_bytes
    if not new or old < LEAST_RAM_GAIN * new:
        return None
    effect = f"would take {new / GIB:.1f} GiB of RAM instead of {old / GIB:.1f}"
    return Gain(old / new, effect)
