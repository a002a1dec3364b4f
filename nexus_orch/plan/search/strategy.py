"""Chooses the loader: the pinned strategy, else the first that provides the wanted context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexus_orch.contracts import Loader, Refusal, name_strategy
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.search.trials import LoaderTrial, SearchSpace, try_loader
from nexus_orch.suggest import suggest_or_list
from nexus_orch.types import Choice, RunSpec


@dataclass(frozen=True)
class LoaderChoice:
    """The trial that will be run, why, and why other strategies cannot serve. `trial` is None when none can."""

    trial: LoaderTrial | None
    choice: Choice
    refused: Mapping[str, Refusal]
    others: tuple[LoaderTrial, ...] = ()


def choose_loader(inputs: Inputs, parallelism: Parallelism, loaders: Mapping[str, Loader]) -> LoaderChoice:
    """The choice of the pinned strategy, else of the first that provides the target. Raises ConfigError for one that no
    plugin offers."""
    pinned = find_pinned(inputs, loaders)
    candidates = [pinned] if pinned is not None else list_by_order(loaders)
    refused: dict[str, Refusal] = {}
    tried: list[LoaderTrial] = []
    space = SearchSpace(inputs, parallelism, _name_offloading(inputs, candidates))
    for loader in candidates:
        refusal = loader.supports(inputs.spec, inputs.facts)
        if refusal is not None:
            refused[loader.name] = refusal
            continue
        tried.append(try_loader(space, loader))
        if tried[-1].is_comfortable and tried[-1].settled.fits_host:
            break
    chosen = _best(tried)
    name = chosen.loader if chosen else candidates[0].name if candidates else "none"
    choice = inputs.fixed.choice("memory.strategy", name, _reason(chosen, tried, refused))
    return LoaderChoice(chosen, choice, refused, tuple(a for a in tried if a is not chosen))


def _best(tried: Sequence[LoaderTrial]) -> LoaderTrial | None:
    """The first that surely provides what is wanted, if it can within the host's RAM too; else the first that provides
    anything, else the first."""
    surely = [one for one in tried if one.is_comfortable]
    within_ram = [one for one in surely if one.settled.fits_host]
    return next(iter((*within_ram, *surely, *(one for one in tried if one.fits), *tried)), None)


def find_pinned(inputs: Inputs, loaders: Mapping[str, Loader]) -> Loader | None:
    """The loader that `memory.strategy` names; None where the planner decides. Raises ConfigError when there is none of
    that name."""
    pinned = inputs.spec.memory.strategy
    if pinned is not None and pinned not in loaders:
        raise ConfigError(_unknown(inputs, pinned, loaders))
    return None if pinned is None else loaders[pinned]


def _name_offloading(inputs: Inputs, candidates: Sequence[Loader]) -> str | None:
    """The first strategy that may leave weights in host RAM and can serve the run, as an override."""
    able = (loader for loader in candidates if loader.offloads and not loader.supports(inputs.spec, inputs.facts))
    return next(map(name_strategy, able), None)


def contradicts(loader: Loader, spec: RunSpec) -> bool:
    """Whether the run could not name this strategy beside what is pinned in it."""
    return any(rule.broken(spec) for rule in loader.rules)


def list_by_order(loaders: Mapping[str, Loader]) -> list[Loader]:
    """The loaders as they are tried when none is pinned."""
    return sorted(loaders.values(), key=lambda loader: (loader.order, loader.name))


def _reason(chosen: LoaderTrial | None, tried: list[LoaderTrial], refused: Mapping[str, Refusal]) -> str:
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
        origin=inputs.fixed.problem_origin("memory.strategy"),
        remedy=suggest_or_list(pinned, sorted(loaders)),
    )
