"""A grid over a base run to points: composed once for each choice of groups, then varied, planned and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nexus_orch.compose.origins import COMMAND_LINE
from nexus_orch.compose.rules import judge_contradictions
from nexus_orch.compose.run import compose_run
from nexus_orch.compose.unbuilt import judge_unbuilt
from nexus_orch.contracts import EngineProvider
from nexus_orch.errors import ConfigError, Problem, render_value
from nexus_orch.plugin_manager import Plugins
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.sweep.expansion.grid import Grid, read_grid
from nexus_orch.sweep.types import GridPoint, Prior
from nexus_orch.types import Facts, Plan, RunSpec

HOPELESS_SHARE = 0.1
"""A plan that lacks more than this share of a card's budget is believed: none of the 37 launches that published plans
of others were compared with, and none of our own, was that far off (docs/planner.md)."""
DEFAULT_CONCURRENCY = 16
"""Requests at once at which points are compared where the base says none."""

CONCURRENCY = "workload.concurrency"


@dataclass(frozen=True)
class Expansion:
    """The points of a grid, in its order, and the requests at once at which they are compared."""

    points: tuple[GridPoint, ...]
    concurrency: int
    loads: tuple[int, ...] = ()
    """Further numbers of requests at once that the grid names."""


def plan_points(
    base: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    plugins: Plugins,
    *,
    project: Path | None = None,
    origin: str = COMMAND_LINE,
    uses_learned: bool = False,
) -> Expansion:
    """Every point of the grid over the base overrides, planned. Points that cannot run have a refusal.

    Raises ConfigError for a mistake of base or grid, and where no point at all can run, with each reason once.
    """
    checked = read_grid(grid, origin)
    planner = _Planner(tuple(base), checked, plugins, project, uses_learned)
    points = tuple(planner.points())
    if all(point.refusal is not None for point in points):
        raise ConfigError(*_no_point_left(points, checked))
    loads = tuple(load for load in checked.settled.get(CONCURRENCY, ()) if load != planner.concurrency)
    return Expansion(points, planner.concurrency, loads)


@dataclass
class _Planner:
    """Plans one point after the other; what points share is composed and read once."""

    base: tuple[str, ...]
    grid: Grid
    plugins: Plugins
    project: Path | None
    uses_learned: bool
    concurrency: int = DEFAULT_CONCURRENCY
    _specs: dict[tuple[str, ...], RunSpec] = field(default_factory=dict)
    _facts: dict[object, tuple[Facts, EngineProvider]] = field(default_factory=dict)
    _engines: dict[object, int] = field(default_factory=dict)
    _seen: set[object] = field(default_factory=set)

    def points(self) -> Iterator[GridPoint]:
        for number, (written, settled) in enumerate(self.grid.combinations()):
            overrides = tuple(f"{key}={render_value(value)}" for key, value in written.items())
            yield self._point(GridPoint(number, written, overrides, number), settled)

    def _point(self, point: GridPoint, settled: Mapping[str, Any]) -> GridPoint:
        spec = self._spec(settled)
        mistakes = (*self.plugins.judge(spec), *judge_contradictions(spec), *judge_unbuilt(spec))
        if mistakes:
            return replace(point, refusal=mistakes[0].message)
        facts, provider = self._facts_of(spec)
        prepared = make_preparation(
            spec, facts, provider, self.plugins, uses_learned=self.uses_learned, seeks_remedies=False
        )
        point = replace(point, prior=make_prior(prepared.plan), refusal=judge_plan(prepared))
        if point.refusal is not None:
            return point
        command = (prepared.rendering.argv, tuple(sorted(prepared.rendering.env.items())))
        first = self._engines.setdefault((command, id(facts)), point.number)
        load = settled.get(CONCURRENCY)
        if (first, load) in self._seen:
            return replace(point, engine=first, refusal=f"its command is that of point {first}")
        self._seen.add((first, load))
        return replace(point, engine=first)

    def _spec(self, settled: Mapping[str, Any]) -> RunSpec:
        """The base with the point's groups, composed once, and its keys."""
        groups = tuple(f"{group}={settled[group]}" for group in self.grid.groups)
        if groups not in self._specs:
            self._specs[groups] = self._compose(groups)
        spec = self._specs[groups]
        for key in self.grid.keys:
            spec = spec.with_value(key, settled[key])
        return spec

    def _compose(self, groups: tuple[str, ...]) -> RunSpec:
        spec = compose_run((*self.base, *groups), project=self.project, judge=lambda _: ())
        origins = {**spec.origins, **dict.fromkeys(self.grid.keys, self.grid.origin)}
        if _is_named(spec):
            self.concurrency = spec.workload.concurrency
        else:
            spec = spec.with_value(CONCURRENCY, self.concurrency)
        return replace(spec, origins=origins)

    def _facts_of(self, spec: RunSpec) -> tuple[Facts, EngineProvider]:
        """What is true for the spec; read once for all points that ask for the same model, machine and engine."""
        model = replace(spec.model, config=None, max_model_len=None)
        key = (spec.hardware, model, id(spec.model.config), repr(spec.engine), spec.serve.extra_args)
        if key not in self._facts:
            self._facts[key] = read_facts(spec, self.plugins)
        return self._facts[key]


def _is_named(spec: RunSpec) -> bool:
    """Whether somebody wrote a number of requests at once: not the shipped default of every key."""
    origin = spec.origin(CONCURRENCY)
    return origin is not None and "every_key" not in origin and "workload/default" not in origin


def make_prior(plan: Plan) -> Prior | None:
    """What the search takes of a plan; None where it could not be drawn."""
    if not plan.per_gpu:
        return None
    card = min(plan.per_gpu, key=lambda card: card.headroom_bytes + card.kv_cache_bytes)
    tokens = plan.kv_cache_tokens
    token_bytes = card.kv_cache_bytes / tokens if tokens > 0 else 0.0
    spare = card.headroom_bytes if tokens <= 0 else int(card.kv_cache_bytes - plan.max_model_len * token_bytes)
    said = plan.prediction
    return Prior(
        fits=plan.fits,
        borderline=said.borderline,
        spare_bytes=spare,
        budget_bytes=card.budget_bytes,
        token_bytes=token_bytes,
        kv_cache_tokens=tokens,
        kv_cache_tokens_low=said.kv_cache_tokens_low,
        kv_cache_tokens_high=said.kv_cache_tokens_high,
        max_model_len=plan.max_model_len,
        most_requests=plan.most_requests,
        tokens_per_second=said.tokens_per_second,
        first_token_seconds=said.time_to_first_token_seconds,
    )


def judge_plan(prepared: Preparation) -> str | None:
    """Why a point is never launched; None where it fits, or lacks so little that the plan may be wrong."""
    plan = prepared.plan
    if plan.fits:
        return None
    if prepared.refusals:
        return prepared.refusals[0].message
    prior = make_prior(plan)
    if prior is not None and _is_near(plan, prior):
        return None
    return plan.problems[0].message if plan.problems else "the plan does not fit"


def _is_near(plan: Plan, prior: Prior) -> bool:
    """Whether all that the plan lacks is memory of the cards, and within what plans were ever wrong by."""
    causes = {problem.cause for problem in plan.problems}
    cards_only = causes <= {"no_kv_cache_memory", "context_too_long", "weights_oom"}
    return cards_only and prior.spare_bytes > -HOPELESS_SHARE * prior.budget_bytes


def _no_point_left(points: Sequence[GridPoint], grid: Grid) -> Iterator[Problem]:
    """One problem for each reason, with how many points it refuses."""
    reasons: dict[str, list[GridPoint]] = {}
    for point in points:
        reasons.setdefault(str(point.refusal), []).append(point)
    for reason, refused in list(reasons.items())[:5]:
        shown = " ".join(refused[0].overrides)
        yield Problem(
            f"no point of the grid can run: {reason} ({len(refused)} of {len(points)} points, such as {shown})",
            origin=grid.origin,
            remedy=f"`nexus plan {shown}` with the rest of the command says what would fit",
        )
