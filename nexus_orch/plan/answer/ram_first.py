"""RAM first: whether the weights are read into the page cache, and the host RAM is tried out, before the engine starts.

Both let a launch fail early and cheaply: a damaged file or too little RAM shows before a card is touched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nexus_orch.plan.asked.fixed import pinned_choice
from nexus_orch.types import GIB, CheckpointFacts, Choice, Facts, Plan, Storage

ENABLED, CHANNELS, RESERVE = "memory.preload.enabled", "memory.preload.channels", "memory.reserve_host"

NETWORK_CHANNELS, ROTATING_CHANNELS, MOST_CHANNELS = 8, 2, 8
"""A virtual disk with 2 processors was at its limit of 1.3 GB/s with one reader and no faster with 16, against 0.4 to
0.8 GB/s through a mapping (docs/hybrid.md). A network answers late, so more requests must be on their way; a disk that
turns would lose its time between more than two places."""


def with_ram_first(plan: Plan, facts: Facts) -> Plan:
    """The plan with the three choices of this stage, and a note for each pin that will have nothing to do. There are
    readers only where something is read ahead (`reads_ahead`)."""
    choices = [_choose_preload(plan, facts)]
    if choices[0].value and why_not_preload(plan, facts) is None:
        choices.append(_choose_channels(plan, facts))
    choices.append(_choose_reserve(plan))
    place = max((i + 1 for i, choice in enumerate(plan.choices) if choice.key.startswith("memory.")), default=0)
    together = (*plan.choices[:place], *choices, *plan.choices[place:])
    return replace(plan, choices=together, notes=(*plan.notes, *_notes(plan, facts)))


def reads_ahead(plan: Plan) -> bool:
    """Whether weights are read into RAM before the launch: a pin alone does not bring them to this machine."""
    return bool(plan.settings.get(CHANNELS))


def choose_channels(storage: Storage, cpu_count: int) -> tuple[int, str]:
    """How many readers suit this storage, and why."""
    if storage == "network":
        return NETWORK_CHANNELS, "the weights come over a network: many requests at once hide its delay"
    if storage == "rotating":
        return ROTATING_CHANNELS, "a disk that turns loses time between more places"
    channels = min(MOST_CHANNELS, max(2, 2 * cpu_count))
    return channels, f"two readers for each processor, at most {MOST_CHANNELS}"


def why_not_preload(plan: Plan, facts: Facts) -> str | None:
    """Why reading ahead has no use, in one sentence; None when it has."""
    checkpoint = facts.model.checkpoint
    if checkpoint is None or not facts.model.is_local:
        return "the weights do not lie on this machine yet: the engine fetches them itself"
    if checkpoint.storage == "memory":
        return "the weights lie in RAM already"
    size, room = sum(checkpoint.file_bytes), room_for_cache(plan)
    if size > room:
        return f"{size / GIB:.1f} GiB of weights do not fit into the {room / GIB:.1f} GiB of RAM that the run leaves"
    return None


def room_for_cache(plan: Plan) -> int:
    """Bytes of RAM that stay for the page cache beside what the run itself takes."""
    return max(0, plan.host.available_bytes - plan.host.required_bytes)


def _choose_preload(plan: Plan, facts: Facts) -> Choice:
    useless = why_not_preload(plan, facts)
    if useless is not None or facts.model.checkpoint is None:
        return _choice(plan, ENABLED, False, useless or "")
    return _choice(plan, ENABLED, True, _reason(facts.model.checkpoint))


def _reason(checkpoint: CheckpointFacts) -> str:
    size = f"{sum(checkpoint.file_bytes) / GIB:.1f} GiB of weights fit into RAM beside the run"
    if checkpoint.cached_bytes and checkpoint.cached_bytes >= 0.05 * GIB:
        size = f"{size} ({checkpoint.cached_bytes / GIB:.1f} are there already)"
    return f"{size}: several readers at once, and read errors show before the engine starts"


def _choose_channels(plan: Plan, facts: Facts) -> Choice:
    storage = "unknown" if facts.model.checkpoint is None else facts.model.checkpoint.storage
    channels, reason = choose_channels(storage, facts.machine.host.cpu_count)
    return _choice(plan, CHANNELS, channels, reason)


def _choose_reserve(plan: Plan) -> Choice:
    pinned = plan.host.pinned_bytes
    if not pinned:
        return _choice(plan, RESERVE, False, "no host RAM has to be locked for a card")
    reason = f"{pinned / GIB:.1f} GiB of host RAM are locked for the cards: a lack shows before one is touched"
    return _choice(plan, RESERVE, True, reason)


def _choice(plan: Plan, key: str, derived: Any, reason: str) -> Choice:
    return Choice(key, derived, "derived", reason) if plan.spec.get(key) is None else pinned_choice(plan.spec, key)


def _notes(plan: Plan, facts: Facts) -> tuple[str, ...]:
    preload = plan.spec.memory.preload
    useless = why_not_preload(plan, facts)
    if preload.enabled and useless is not None:
        readers = "" if preload.channels is None else f" and {CHANNELS}={preload.channels}"
        return (f"{ENABLED}=true{readers}, but nothing is read ahead: {useless}",)
    if preload.channels is not None and (useless is not None or preload.enabled is False):
        return (f"{CHANNELS}={preload.channels} has no use: {useless or f'{ENABLED}=false'}",)
    return ()
