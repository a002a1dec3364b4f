"""Everything before the launch: read the facts, make the plan, say it in the engine's own words. Launches nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nexus_orch.contracts import EngineProvider, Rendering
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine import catalogue_engine
from nexus_orch.facts.machine import read_machine
from nexus_orch.facts.model import read_model
from nexus_orch.plan.make import make_plan
from nexus_orch.plugin_manager import Plugins, choose_adapter, choose_engine
from nexus_orch.types import Choice, Command, EngineFacts, Facts, Lesson, MachineFacts, ModelFacts, Plan, RunSpec

Read = TypeVar("Read")


@dataclass(frozen=True)
class Preparation:
    """A run that is ready to be launched, or that says why it must not be. `command` is None without an engine."""

    spec: RunSpec
    facts: Facts
    plan: Plan
    rendering: Rendering
    adapter: str
    command: Command | None


def read_facts(spec: RunSpec, plugins: Plugins) -> tuple[Facts, EngineProvider]:
    """All facts of a run. Raises one ConfigError with every problem that model, machine and engine have."""
    problems: list[Problem] = []
    machine = _collect(problems, lambda: read_machine(spec.hardware, spec.origins))
    model = _collect(problems, lambda: read_model(spec.model, spec.origins))
    provider = _collect(problems, lambda: choose_engine(plugins.engines(), spec.engine.kind, spec.origins))
    engine = _collect(problems, lambda: _find_engine(spec, provider, machine)) if provider and machine else None
    if problems:
        raise ConfigError(*problems)
    assert isinstance(machine, MachineFacts) and isinstance(model, ModelFacts)
    assert engine is not None and provider is not None
    return Facts(model=model, machine=machine, engine=engine), provider


def _collect(problems: list[Problem], read: Callable[[], Read]) -> Read | None:
    try:
        return read()
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _find_engine(spec: RunSpec, provider: EngineProvider, machine: MachineFacts) -> EngineFacts:
    """The installed engine, else the release that the plan must assume."""
    cpu = not machine.gpus
    installed = provider.find(spec.engine, cpu=cpu)
    return installed or catalogue_engine(spec.engine.version, cpu=cpu)


def make_preparation(
    spec: RunSpec, facts: Facts, provider: EngineProvider, plugins: Plugins, lessons: Sequence[Lesson] = ()
) -> Preparation:
    """Plan the run and render it; pure but for the plugins' own code. The plan's `fits` counts the adapter's problems."""
    plan = make_plan(spec, facts, plugins.loaders(), lessons)
    adapter = choose_adapter(plugins.adapters(), facts.engine.version)
    rendering = adapter.render(plan, facts.engine)
    plan = replace(
        plan,
        fits=plan.fits and not rendering.problems,
        choices=_replaced(plan.choices, rendering.choices),
        problems=(*plan.problems, *rendering.problems),
    )
    command = None if facts.engine.python is None else provider.command(rendering, facts.engine, spec.engine.env)
    return Preparation(spec, facts, plan, rendering, adapter.name, command)


def _replaced(choices: Sequence[Choice], later: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices with those that the adapter replaced or dropped in their place, and its own additions at the end."""
    by_key = {choice.key: choice for choice in later}
    kept = [by_key.pop(choice.key, choice) for choice in choices]
    return (*kept, *by_key.values())
