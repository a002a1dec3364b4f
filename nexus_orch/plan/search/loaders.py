"""Chooses the loader: the pinned strategy, else the first that provides the wanted context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nexus_orch.contracts import Loader
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.cards.division import Division
from nexus_orch.plan.search.attempts import Attempt, Trials, attempt
from nexus_orch.suggest import suggest_or_list
from nexus_orch.types import Choice

PREFERRED = ("vram_only", "hybrid")
"""The order in which strategies are tried when none is pinned: the fastest first. Others follow by name."""


@dataclass(frozen=True)
class LoaderChoice:
    """The attempt that will be run, why, and what every other strategy said. `attempt` is None when none can serve."""

    attempt: Attempt | None
    choice: Choice
    refused: Mapping[str, str]
    others: tuple[Attempt, ...] = ()


def choose_loader(inputs: Inputs, division: Division, loaders: Mapping[str, Loader]) -> LoaderChoice:
    """Raises ConfigError for a strategy that no plugin offers."""
    pinned = inputs.spec.memory.strategy
    if pinned is not None and pinned not in loaders:
        raise ConfigError(_unknown(inputs, pinned, loaders))
    names = [pinned] if pinned is not None else _ordered(loaders)
    refused: dict[str, str] = {}
    tried: list[Attempt] = []
    trials = Trials(inputs, division)
    for name in names:
        reason = loaders[name].supports(inputs.spec, inputs.facts)
        if reason is not None:
            refused[name] = reason
            continue
        tried.append(attempt(trials, loaders[name]))
        if tried[-1].is_comfortable:
            break
    best = next((a for a in tried if a.is_comfortable), None) or next((a for a in tried if a.fits), None)
    chosen = best or (tried[0] if tried else None)
    name = chosen.loader if chosen else names[0] if names else "none"
    choice = inputs.wishes.choice("memory.strategy", name, _reason(chosen, tried, refused))
    return LoaderChoice(chosen, choice, refused, tuple(a for a in tried if a is not chosen))


def _ordered(loaders: Mapping[str, Loader]) -> list[str]:
    first = [name for name in PREFERRED if name in loaders]
    return [*first, *sorted(set(loaders) - set(first))]


def _reason(chosen: Attempt | None, tried: list[Attempt], refused: Mapping[str, str]) -> str:
    if chosen is None:
        return "no strategy can serve this run"
    if chosen is not tried[0]:
        return f"{tried[0].loader} leaves too little memory for the wanted context"
    if chosen.fits:
        return "everything fits on the cards" if not chosen.settled.offloads else "the only strategy that can serve"
    return "no strategy fits; this one is the fastest" if not refused else "the only strategy that can serve"


def _unknown(inputs: Inputs, pinned: str, loaders: Mapping[str, Loader]) -> Problem:
    return Problem(
        f'no loader is called "{pinned}"',
        key="memory.strategy",
        value=pinned,
        origin=inputs.wishes.problem_origin("memory.strategy"),
        remedy=suggest_or_list(pinned, sorted(loaders)),
    )
