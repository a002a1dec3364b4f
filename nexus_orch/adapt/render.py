"""Render a plan with a settings table: the same for every adapter, so that an adapter is its table and its guards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.extra_args import check_extra_args, read_pin
from nexus_orch.adapt.lost import Lost, find_lost, find_nearest
from nexus_orch.adapt.values import read_value
from nexus_orch.adapt.ways import Part, Table, UnwritableError, Way, write_for
from nexus_orch.contracts import Rendering
from nexus_orch.errors import Problem
from nexus_orch.facts.options.catalogue import releases_where, render_releases
from nexus_orch.releases.engine import serves_by_command
from nexus_orch.suggest import suggest
from nexus_orch.types import Choice, EngineFacts, Flag, Plan

Guard = Callable[[Plan, EngineFacts], Part]
"""A rule over several settings, such as a variable that one of them needs."""

VARIABLES = "engine.env."
"""With this begin the keys of choices that are variables of the engine."""

PLUGIN_SETTINGS = "plugin."
"""With this begin the keys of settings that plugins add."""

API_SERVER = "vllm.entrypoints.openai.api_server"
"""The module that releases without `vllm serve` run; it takes the model as --model."""

_SHOWN_VALUES = 20


@dataclass(frozen=True)
class TableAdapter:
    """An adapter made of a settings table and some guards."""

    name: str
    versions: SpecifierSet
    table: Table
    guards: tuple[Guard, ...] = ()
    guarded: Mapping[str, str] = field(default_factory=dict)
    """The options that guards set by themselves, each by the key of its choice."""

    def render(self, plan: Plan, engine: EngineFacts) -> Rendering:
        """The plan in the words of this engine, with options that it has. A pinned setting that it cannot honour is a
        problem; a derived one is left out, and a choice says why."""
        parts = [_render_model(plan, engine)]
        for key, ways in self.table.items():
            choice = plan.choice(key)
            if choice is not None and choice.value is not None:
                parts.append(_render_setting(choice, ways, plan, engine))
        parts.append(_say_mappings(parts))
        parts.append(_render_variables(plan))
        parts += [guard(plan, engine) for guard in self.guards]
        parts.append(self._refuse_unknown(plan))
        said = {flag: key for part in parts for flag, key in part.said.items()}
        silent = _find_silent(self.table, plan, engine) if plan.spec.serve.extra_args else {}
        parts.append(check_extra_args(plan.spec, engine, {**silent, **said}))
        return replace(_join(parts), notes=tuple(lost.render(engine.version) for lost in self.find_lost(engine)))

    def find_lost(self, engine: EngineFacts) -> Iterator[Lost]:
        """The settings of this adapter whose option vanished, and nothing here says why."""
        return find_lost(self.table, engine, self.guarded)

    def _refuse_unknown(self, plan: Plan) -> Part:
        """Settings of plugins that this adapter does not know are told, never dropped."""
        known = [key for key in self.table if key.startswith(PLUGIN_SETTINGS)]
        return Part(
            problems=[
                Problem(
                    f"the adapter {self.name} knows no such setting",
                    choice.key,
                    choice.value,
                    plan.spec.origin(choice.key),
                    _suggest_setting(choice.key, known),
                )
                for choice in plan.choices
                if choice.key.startswith(PLUGIN_SETTINGS) and choice.key not in self.table
            ]
        )


def _suggest_setting(key: str, known: list[str]) -> str:
    return suggest(key, known) or "leave it out, or name the adapter that knows it: engine.adapter=NAME"


def shown_launcher(argv: Sequence[str]) -> tuple[str, ...]:
    """What a person would type before a rendering's `argv`."""
    return ("vllm",) if argv[:1] == ("serve",) else ("python", "-m", API_SERVER)


def _join(parts: Iterable[Part]) -> Rendering:
    whole = Part()
    for part in parts:
        whole.argv += part.argv
        whole.env |= part.env
        whole.secret_env |= part.secret_env
        whole.choices += part.choices
        whole.problems += part.problems
        whole.said |= part.said
    return Rendering(
        argv=tuple(whole.argv),
        env=whole.env,
        secrets=frozenset(whole.secret_env),
        secret_env=whole.secret_env,
        choices=tuple(whole.choices),
        problems=tuple(whole.problems),
        said=whole.said,
    )


def _render_model(plan: Plan, engine: EngineFacts) -> Part:
    path = plan.settings.get("model.path") or plan.spec.model.path
    if not path:
        remedy = "model.path=DIR, or a hub id such as Qwen/Qwen2.5-7B-Instruct"
        problem = Problem("the model has no path", key="model.path", remedy=remedy, cause="model_not_found")
        return Part(argv=["serve"], problems=[problem])
    argv = ["serve", path] if serves_by_command(engine.version) else ["--model", path]
    return Part(argv=argv, said={"--model": "model.path"})


@dataclass(frozen=True)
class _Case:
    """One setting of one plan on one engine."""

    choice: Choice
    plan: Plan
    engine: EngineFacts
    way: Way

    @property
    def opened(self) -> str:
        """How the user leaves the setting to the planner, which knows none of a plugin's."""
        return f"{self.choice.key}={'null' if self.choice.key.startswith(PLUGIN_SETTINGS) else 'auto'}"

    def refuse(self, reason: str, *remedies: str) -> Part:
        """A problem when the setting is pinned; else the choice to leave it out."""
        choice, version = self.choice, self.engine.version
        if choice.origin != "pinned":
            return Part(choices=[Choice(choice.key, None, choice.origin, f"vLLM {version}: {reason}")])
        problem = Problem(
            f"refused for vLLM {version}: {reason}",
            key=choice.key,
            value=choice.value,
            origin=self.plan.spec.origin(choice.key),
            remedy="; ".join(remedies) or self.way.instead or self.opened,
            cause=self.way.cause,
        )
        return Part(problems=[problem])

    def refuse_missing(self, flag: str) -> Part:
        """The release has no such option."""
        releases = releases_where(flag)
        who = f"{render_releases(releases)} of vLLM have it" if releases else "no release of vLLM has it"
        nearest = find_nearest(flag, self.engine)
        perhaps = [f"perhaps it is {nearest} now, which serve.extra_args can give"] if nearest else []
        return self.refuse(f"it has no {flag}", self.way.instead or self.opened, who, *perhaps)

    def refuse_value(self, flag: Flag, written: str) -> Part:
        """The option takes other values."""
        values = [str(value) for value in flag.choices or flag.known_values]
        shown = ", ".join(values[:_SHOWN_VALUES]) + (" ..." if len(values) > _SHOWN_VALUES else "")
        releases = releases_where(flag.name, lambda known: written in map(str, known.choices or known.known_values))
        remedies = [remedy for remedy in (suggest(written, values), self.way.instead) if remedy]
        remedies.append(f"it takes {shown}")
        remedies.append(f"{render_releases(releases)} of vLLM take it" if releases else "no release of vLLM takes it")
        if not flag.choices:
            remedies.append(f'if a plugin of vLLM adds it: serve.extra_args=["{flag.name}","{written}"]')
        return self.refuse(f"{flag.name} does not know {written}", *remedies)


def _say_mappings(parts: Iterable[Part]) -> Part:
    """The options that take JSON, each with all the keys that settings say of it."""
    whole: dict[str, dict[str, Any]] = {}
    for part in parts:
        for flag, keys in part.within.items():
            said = whole.setdefault(flag, {})
            said |= {name: value for name, value in keys.items() if name not in said}
    return Part(argv=[word for flag, keys in whole.items() for word in (flag, json.dumps(keys))])


def _find_silent(table: Table, plan: Plan, engine: EngineFacts) -> dict[str, str]:
    """The options that a pinned setting decides by leaving them out: an extra argument may not say otherwise."""
    found = {}
    for key, ways in table.items():
        value = read_pin(plan.spec, key)
        choice = None if value is None else Choice(key, value, "pinned", "")
        way = None if choice is None else _find_way(choice, ways, plan, engine)
        if way is not None and way.flag is not None and way.refused is None:
            flag = engine.option(way.flag)
            found[way.flag if flag is None else flag.name] = key
    return found


def _find_way(choice: Choice, ways: tuple[Way, ...], plan: Plan, engine: EngineFacts) -> Way | None:
    """The way of this release and device for the choice, if it has one."""
    version, env = engine.version, plan.spec.engine.env
    return next((way for way in ways if way.applies(version, engine.device, choice.value, env)), None)


def _render_variables(plan: Plan) -> Part:
    """The variables that the plan itself sets, for the sake of a strategy. One that the user sets to something else is
    a contradiction."""
    part, own = Part(), plan.spec.engine.env
    for choice in plan.choices:
        if not choice.key.startswith(VARIABLES):
            continue
        name, value = choice.key.removeprefix(VARIABLES), str(choice.value)
        if own.get(name, value) == value:
            part.env[name], part.said[name] = value, choice.key
            continue
        origin = plan.spec.origin(choice.key) or plan.spec.origin("engine.env")
        remedy = f"{choice.key}={value}, or another memory.strategy than {plan.loader}"
        part.problems.append(Problem(choice.reason, choice.key, own[name], origin, remedy))
    return part


def _render_setting(choice: Choice, ways: tuple[Way, ...], plan: Plan, engine: EngineFacts) -> Part:
    """One setting in the way of this release and device."""
    way = _find_way(choice, ways, plan, engine)
    if way is None or choice.value in way.silent or plan.settings.get(way.unless[0], way) == way.unless[1]:
        return Part()
    case = _Case(choice, plan, engine, way)
    variable = way.overridden_by or way.env
    if way.refused is not None:
        return case.refuse(way.refused)
    if variable in plan.spec.engine.env:
        return case.refuse(f"engine.env sets {variable}, which decides the same", f"keep one of them: {case.opened}")
    try:
        return _say(case)
    except UnwritableError as error:
        reason = f"{way.flag or way.env} {error}"
        if choice.origin == "pinned":
            return case.refuse(reason, f"{choice.key}={error.nearest}")
        moved = Choice(choice.key, error.nearest, choice.origin, f"vLLM {engine.version}: {reason}")
        part = _say(_Case(moved, plan, engine, way))
        part.choices.append(moved)
        return part


def _say(case: _Case) -> Part:
    """The value as option or variable, if the engine has the option and the option takes the value.

    Raises UnwritableError for a value without a form that this release takes.
    """
    way = case.way
    if way.flag is None:
        return Part(env={str(way.env): way.write(case.choice.value)}, said={str(way.env): case.choice.key})
    flag = case.engine.option(way.flag)
    if flag is None:
        return case.refuse_missing(way.flag)
    return _say_option(flag, way, case) if way.within is None else _say_within(flag, way, case)


def _say_option(flag: Flag, way: Way, case: _Case) -> Part:
    """The option with its value. Raises UnwritableError."""
    value = case.choice.value
    if flag.kind in ("store_true", "bool_optional") and not isinstance(value, bool):
        return case.refuse(f"{flag.name} is switched on or off: it takes true or false, not {value}")
    written = write_for(flag, way, value)
    values = flag.choices or flag.known_values
    if values and not isinstance(value, bool) and written not in map(str, values):
        return case.refuse_value(flag, written)
    try:
        read_value(flag, written)
    except ValueError as error:
        return case.refuse(f"{flag.name} {error}")
    words = _words(flag, value, written)
    return Part(argv=words, said={flag.name: case.choice.key} if words else {})


def _say_within(flag: Flag, way: Way, case: _Case) -> Part:
    """The value as a key of the option's JSON; a mapping as several."""
    key, value = case.choice.key, case.choice.value
    keys = {way.within: list(value) if isinstance(value, tuple) else value} if way.within else dict(value)
    said = {flag.name: key, **{f"{flag.name}.{name}": key for name in keys}, **dict.fromkeys(way.also, key)}
    return Part(said=said, within={flag.name: keys})


def _words(flag: Flag, value: Any, written: str) -> list[str]:
    """A bare flag, its --no- form, or the flag and its value or values."""
    if isinstance(value, tuple):
        return [flag.name, *map(str, value)]
    if not isinstance(value, bool) or flag.kind == "bool_value":
        return [flag.name, written.lower() if isinstance(value, bool) else written]
    if value:
        return [flag.name]
    return [f"--no-{flag.name.removeprefix('--')}"] if flag.kind == "bool_optional" else []
