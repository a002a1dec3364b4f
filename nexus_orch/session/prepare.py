"""Everything before the launch: read the facts, make the plan, say it in the engine's own words. Launches nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nexus_orch.adapt.door import check_door
from nexus_orch.adapt.effects import tell_uncounted
from nexus_orch.adapt.models import check_model
from nexus_orch.adapt.overrides import override_config
from nexus_orch.adapt.render import shown_launcher
from nexus_orch.choose import choose_adapter, choose_engine, describe_stretch
from nexus_orch.contracts import EngineOrder, EngineProvider, Rendering
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.draft import read_draft
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.machine.machine import read_machine
from nexus_orch.facts.model.model import read_model
from nexus_orch.install.models.bundled import with_awaited_folder
from nexus_orch.judge.learned.learning import render_lessons
from nexus_orch.launch.server.ports import FIRST_PRIVATE_PORT, PRIVATE_HOST
from nexus_orch.plan.make import make_plan
from nexus_orch.plugin_manager import Plugins
from nexus_orch.session.learning import Learned, read_learned
from nexus_orch.suggest import suggest
from nexus_orch.types import Choice, Command, EngineFacts, Facts, Lesson, MachineFacts, Plan, RunSpec

Read = TypeVar("Read")


@dataclass(frozen=True)
class Preparation:
    """A run that is ready to be launched, or that says why it must not be."""

    spec: RunSpec
    facts: Facts
    provider: EngineProvider
    plan: Plan
    rendering: Rendering
    adapter: str
    engine_port: int | None = None
    """The private port of an engine behind a front door; None where clients ask the engine itself."""
    substitutions: tuple[Choice, ...] = ()
    """What the user or the planner asked for and the adapter replaced or left out."""

    @property
    def additions(self) -> tuple[Choice, ...]:
        """What the adapter brings beside that, such as a variable that a setting needs on this release."""
        return tuple(choice for choice in self.rendering.choices if choice not in self.substitutions)

    @property
    def refusals(self) -> tuple[Problem, ...]:
        """What was asked for and cannot be had, whatever fits: by the plan, and by the engine."""
        return (*self._planned_mistakes, *_unsaid(self.rendering.problems, self._planned_mistakes))

    @property
    def _planned_mistakes(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.plan.mistakes if problem not in self.rendering.problems)

    @property
    def is_installed(self) -> bool:
        """Whether there is an engine to launch; else the plan assumes a release."""
        return self.facts.engine.source == "installed"

    def command(self) -> Command:
        """The process to start. Raises ConfigError when a secret that it needs is not in the environment."""
        return self.provider.command(EngineOrder(self.rendering, self.facts, self.plan))

    def shown_command(self) -> Command:
        """The same for the eyes: without secrets, and in vLLM's own words where no engine is installed."""
        harmless = replace(self.rendering, secret_env={})
        if not self.is_installed:
            argv = (*shown_launcher(harmless.argv), *harmless.argv)
            return Command(argv, {**harmless.env, **self.spec.engine.env})
        return self.provider.command(EngineOrder(harmless, self.facts, self.plan))


def read_facts(spec: RunSpec, plugins: Plugins) -> tuple[Facts, EngineProvider]:
    """All facts of a run. Raises one ConfigError with every problem that model, machine and engine have."""
    problems: list[Problem] = []
    machine = _collect(problems, lambda: read_machine(spec.hardware, spec.origins))
    model = _collect(problems, lambda: with_awaited_folder(read_model(spec.model, spec.origins)))
    found = _collect(problems, lambda: _find_engine(spec, plugins, machine))
    draft = _collect(problems, lambda: read_draft(spec, spec.origins))
    if machine is None or model is None or found is None or problems:
        raise ConfigError(*problems)
    engine, provider = found
    return Facts(override_config(model, spec, engine), machine, engine, draft), provider


def _collect(problems: list[Problem], read: Callable[[], Read]) -> Read | None:
    try:
        return read()
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _find_engine(spec: RunSpec, plugins: Plugins, machine: MachineFacts | None) -> tuple[EngineFacts, EngineProvider]:
    """The installed engine, else the release that the plan must assume; and who runs it."""
    provider = choose_engine(plugins.engines(), spec.engine.kind, spec.origins)
    is_cpu = machine is not None and not machine.gpus
    found = provider.find(spec, cpu=is_cpu)
    return found or make_assumed_engine(spec.engine.version, cpu=is_cpu), provider


def make_preparation(
    spec: RunSpec,
    facts: Facts,
    provider: EngineProvider,
    plugins: Plugins,
    lessons: Sequence[Lesson] = (),
    *,
    uses_learned: bool = True,
    seeks_remedies: bool = True,
    private_port: int = FIRST_PRIVATE_PORT,
) -> Preparation:
    """Plan the run and render it. A plan fits only if the engine can do what it says.

    `lessons` are what this very run has learned; with `uses_learned` the plan also takes what earlier launches on this
    machine measured, and says so. `private_port` is where the engine listens when a front door stands before it.
    """

    def draw(learned: Sequence[Lesson]) -> Preparation:
        known = (*learned, *lessons)
        return _draw(spec, facts, provider, plugins, known, private_port=private_port, seeks_remedies=seeks_remedies)

    learned = read_learned(facts, lambda tried: draw(tried).plan) if uses_learned else Learned()
    drawn = draw(learned.lessons)
    notes = (*drawn.plan.notes, *render_lessons(learned.lessons), *learned.notes)
    return replace(drawn, plan=replace(drawn.plan, notes=notes))


def make_draw(plugins: Plugins) -> Callable[[RunSpec, Facts], Plan]:
    """How a run near a prepared one is planned: as it would be if it were asked for, with what was learned about it."""

    def draw(spec: RunSpec, facts: Facts) -> Plan:
        def plan(lessons: Sequence[Lesson]) -> Plan:
            return make_plan(spec, facts, plugins.loaders(), lessons)

        return plan(read_learned(facts, plan).lessons)

    return draw


def _draw(
    spec: RunSpec,
    facts: Facts,
    provider: EngineProvider,
    plugins: Plugins,
    lessons: Sequence[Lesson],
    *,
    private_port: int,
    seeks_remedies: bool,
) -> Preparation:
    plan = make_plan(spec, facts, plugins.loaders(), lessons, seeks_remedies=seeks_remedies)
    _check_patterns(plan)
    adapter = choose_adapter(plugins.adapters(), facts.engine.version, spec.engine.adapter, spec.origins)
    engine_port = private_port if spec.serve.front_door else None
    told = plan if engine_port is None else _behind_door(plan, engine_port)
    rendering = adapter.render(_without_settings(told, provider.settings), facts.engine)
    found = (*check_model(spec, facts), *check_door(spec, facts.engine))
    rendering = replace(rendering, problems=(*found, *_suggesting(rendering.problems, provider.settings)))
    substitutions = tuple(choice for choice in rendering.choices if plan.choice(choice.key) is not None)
    plan = replace(
        plan,
        fits=plan.fits and not rendering.problems,
        choices=_replaced(plan.choices, rendering.choices),
        problems=(*plan.problems, *_unsaid(rendering.problems, plan.problems)),
        is_refused=bool(rendering.problems or plan.mistakes),
        notes=(
            *plan.notes,
            *rendering.notes,
            *tell_uncounted(spec, facts.engine),
            *describe_stretch(adapter, facts.engine.version),
        ),
    )
    return Preparation(spec, facts, provider, plan, rendering, adapter.name, engine_port, substitutions)


def _behind_door(plan: Plan, port: int) -> Plan:
    """The plan as the engine is told of it: the address that clients ask is the door's."""
    reason = "the front door listens where clients ask"
    private = (
        Choice("serve.host", PRIVATE_HOST, "derived", reason),
        Choice("serve.port", port, "derived", reason),
    )
    return replace(plan, choices=_replaced(plan.choices, private))


def _check_patterns(plan: Plan) -> None:
    """Raises PluginError when a pattern of the plan's proof cannot be read: better now than when the log comes."""
    if plan.proof is not None and plan.proof.patterns:
        from nexus_orch.judge.log.measured import compile_pattern  # noqa: PLC0415 - only plugins bring patterns

        for pattern in plan.proof.patterns:
            compile_pattern(pattern)


def _without_settings(plan: Plan, names: Collection[str]) -> Plan:
    """The plan without the settings that are the engine provider's own: no adapter need know them."""
    own = {f"plugin.{name}" for name in names}
    return replace(plan, choices=tuple(choice for choice in plan.choices if choice.key not in own)) if own else plan


def _suggesting(problems: Sequence[Problem], names: Collection[str]) -> Iterator[Problem]:
    """The problems of an adapter; an unknown setting that looks like one of the engine's own is told its name."""
    for problem in problems:
        section, _, name = (problem.key or "").partition(".")
        near = suggest(name, names, before="plugin.") if section == "plugin" else ""
        yield replace(problem, remedy=near) if near else problem


def _unsaid(problems: Sequence[Problem], said: Sequence[Problem]) -> list[Problem]:
    """Those whose cause the plan does not name for the same setting already."""
    known = {(problem.key, problem.cause) for problem in said if problem.key is not None}
    return [problem for problem in problems if problem.cause is None or (problem.key, problem.cause) not in known]


def _replaced(choices: Sequence[Choice], later: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices with those that the adapter replaced or dropped in their place, and its own additions at the end."""
    by_key = {choice.key: choice for choice in later}
    kept = [by_key.pop(choice.key, choice) for choice in choices]
    return (*kept, *by_key.values())
