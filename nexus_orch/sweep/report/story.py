"""A sweep told after the event: each point with its plan and measurements, and the launches in their order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

from nexus_orch.sweep.types import (
    INTERRUPTED,
    Ended,
    Finish,
    Goal,
    GridPoint,
    LaunchEnded,
    Outcome,
    SearchDecision,
    Soaked,
    Speed,
    Task,
)

PointState = Literal["pick", "measured", "unstable", "failed", "decided", "open"]
"""`decided` without a launch of its own; `open` where the budget ended before."""


@dataclass(frozen=True)
class PointStory:
    """What is known of one point. Speeds are output tokens per second of all requests together, at the goal's
    concurrency; None where nothing was planned or measured."""

    number: int
    settings: Mapping[str, Any]
    state: PointState
    reason: str = ""
    """What went wrong with one that was launched; else why it is decided, in the search's words."""
    planned_tokens_per_second: float | None = None
    planned_kv_cache_tokens: int | None = None
    tokens_per_second: float | None = None
    """The median of all good measurements."""
    spread: float = 0.0
    """The largest measurement less the smallest, as a share of the median."""
    measurements: int = 0
    first_token_seconds: float | None = None
    inter_token_seconds: float | None = None
    by_load: Mapping[int, float] = field(default_factory=dict)
    """Tokens per second by the number of requests at once."""
    kv_cache_tokens: int | None = None
    starts: int = 0
    failed_starts: int = 0
    soaked_requests: int = 0
    soaked_failed: int = 0
    memory_slope_bytes_per_hour: float | None = None


@dataclass(frozen=True)
class LaunchStory:
    """One engine start."""

    number: int
    point: int
    cause: str | None
    """Why it did not become ready, or how it ended; None where all was well."""
    is_confirming: bool
    tokens_per_second: float | None
    """The first good measurement at the goal's concurrency."""
    minutes: float
    """Of the start and all that was measured in it."""


@dataclass(frozen=True)
class SweepStory:
    """The whole sweep; `points` and `launches` in the order of their numbers."""

    keys: tuple[str, ...]
    """The settings that differ between points."""
    goal: Goal
    points: tuple[PointStory, ...]
    launches: tuple[LaunchStory, ...]
    decision: SearchDecision
    """How the sweep stands after all its outcomes."""

    @property
    def pick(self) -> PointStory | None:
        return next((point for point in self.points if point.state == "pick"), None)

    @property
    def is_over(self) -> bool:
        return isinstance(self.decision.step, Finish)


def make_story(task: Task, outcomes: Sequence[Outcome], decision: SearchDecision) -> SweepStory:
    """The story of a sweep. `decision` is the search's on these outcomes."""
    told = {verdict.point: verdict for verdict in decision.verdicts}
    by_point: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        by_point.setdefault(outcome.point, []).append(outcome)
    pick = decision.step.pick if isinstance(decision.step, Finish) else None
    points = []
    for point in task.points:
        verdict = told.get(point.number)
        story = _tell_point(point, by_point.get(point.number, ()), task.goal.concurrency)
        state = _state_of(point, story, is_pick=point.number == pick, is_decided=verdict is not None)
        decided = "" if verdict is None or (verdict.by == "measured" and state != "decided") else verdict.reason
        reason = "" if state in ("pick", "open") else point.refusal or story.reason or decided
        points.append(replace(story, state=state, reason=reason))
    return SweepStory(
        _find_keys(task.points), task.goal, tuple(points), tuple(_tell_launches(task, outcomes)), decision
    )


def _find_keys(points: Sequence[GridPoint]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for point in points for key in point.settings)
    return tuple(key for key in keys if len({repr(point.settings.get(key)) for point in points}) > 1) or tuple(keys)


def _tell_point(point: GridPoint, outcomes: Sequence[Outcome], concurrency: int) -> PointStory:
    prior = point.prior
    good = [x for x in outcomes if isinstance(x, Speed) and not x.is_spoilt and not x.failed]
    at_goal = [x for x in good if x.concurrency == concurrency]
    speeds = [x.tokens_per_second for x in at_goal]
    middle = median(speeds) if speeds else None
    starts = [x for x in outcomes if isinstance(x, LaunchEnded) and x.cause != INTERRUPTED]
    soaks = [x for x in outcomes if isinstance(x, Soaked)]
    loads = sorted({x.concurrency for x in good})
    return PointStory(
        number=point.number,
        settings=point.settings,
        state="open",
        reason=next(_find_trouble(outcomes), ""),
        planned_tokens_per_second=None if prior is None else prior.tokens_per_second,
        planned_kv_cache_tokens=None if prior is None else prior.kv_cache_tokens,
        tokens_per_second=middle,
        spread=(max(speeds) - min(speeds)) / middle if middle else 0.0,
        measurements=len(speeds),
        first_token_seconds=_middle(x.first_token_seconds for x in at_goal),
        inter_token_seconds=_middle(x.inter_token_seconds for x in at_goal),
        by_load={load: median(x.tokens_per_second for x in good if x.concurrency == load) for load in loads},
        kv_cache_tokens=next((x.kv_cache_tokens for x in starts if x.kv_cache_tokens is not None), None),
        starts=len(starts),
        failed_starts=sum(x.cause is not None for x in starts),
        soaked_requests=sum(x.requests for x in soaks),
        soaked_failed=sum(x.failed for x in soaks),
        memory_slope_bytes_per_hour=_middle(x.memory_slope_bytes_per_hour for x in soaks),
    )


def _middle(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return median(found) if found else None


def _state_of(point: GridPoint, story: PointStory, *, is_pick: bool, is_decided: bool) -> PointState:
    if is_pick:
        return "pick"
    if story.soaked_failed or "accumulated" in story.reason or story.reason.startswith("died"):
        return "unstable"
    if story.tokens_per_second is not None:
        return "measured"
    if story.starts and story.failed_starts == story.starts:
        return "failed"
    return "decided" if is_decided or point.refusal else "open"


def _find_trouble(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What went wrong with a point, the worst first."""
    for outcome in outcomes:
        match outcome:
            case Soaked(died_at_tokens=tokens) if tokens is not None:
                yield f"died at {tokens:,} accumulated tokens"
            case Soaked(failed=failed, requests=requests) if failed:
                yield f"{failed:,} of {requests:,} requests of its soak failed"
    for outcome in outcomes:
        match outcome:
            case Ended(cause=cause) if cause not in (None, INTERRUPTED):
                yield f"died while it was measured: {cause}"
            case LaunchEnded(cause=cause) if cause not in (None, INTERRUPTED):
                yield f"did not become ready: {cause}"


def _tell_launches(task: Task, outcomes: Sequence[Outcome]) -> Iterator[LaunchStory]:
    """The starts in their order, each with what was measured in it: up to the next start in the same slot."""
    starts = [(place, x) for place, x in enumerate(outcomes) if isinstance(x, LaunchEnded) and x.cause != INTERRUPTED]
    for number, (place, start) in enumerate(starts, 1):
        follow = next((later for later, x in starts if later > place and x.slot == start.slot), len(outcomes))
        within = [x for x in outcomes[place:follow] if x.slot == start.slot and x.point == start.point]
        speeds = [
            x.tokens_per_second
            for x in within
            if isinstance(x, Speed) and x.concurrency == task.goal.concurrency and not x.is_spoilt and not x.failed
        ]
        yield LaunchStory(
            number,
            start.point,
            start.cause or next(_find_trouble(within), None),
            start.is_confirming,
            speeds[0] if speeds else None,
            sum(getattr(x, "minutes", 0.0) for x in within),
        )
