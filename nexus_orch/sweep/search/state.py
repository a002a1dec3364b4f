"""All outcomes so far, folded: the starts with what was measured in each, and what runs where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from nexus_orch.sweep.types import (
    INTERRUPTED,
    Begun,
    Ended,
    LaunchEnded,
    Outcome,
    Soaked,
    Speed,
    Task,
)

WARM_UP_SHARE = 0.92
"""A first measurement below this share of the later ones' median was a warm-up."""


@dataclass
class PointStart:
    """One engine start, and what was measured of it, in order."""

    point: int
    cause: str | None
    kv_cache_tokens: int | None
    minutes: float
    is_confirming: bool
    speeds: list[Speed] = field(default_factory=list)
    soaks: list[Soaked] = field(default_factory=list)
    died: str | None = None
    """The cause when the engine died outside a soak."""

    def clean(self, concurrency: int) -> list[Speed]:
        """The measurements that count: unspoilt, without failed requests, the warm-up left out."""
        found = [x for x in self.at(concurrency) if not x.is_spoilt and not x.failed and x.tokens_per_second > 0]
        later = [x.tokens_per_second for x in found[1:]]
        if later and found[0].tokens_per_second < WARM_UP_SHARE * median(later):
            return found[1:]
        return found

    def at(self, concurrency: int) -> list[Speed]:
        return [x for x in self.speeds if x.concurrency == concurrency]


@dataclass
class SweepState:
    """How the sweep stands."""

    task: Task
    starts: list[PointStart] = field(default_factory=list)
    running: dict[int, PointStart] = field(default_factory=dict)
    """The start whose engine runs, by slot."""
    begun: dict[int, Begun] = field(default_factory=dict)
    minutes: float = 0.0

    def of(self, point: int) -> list[PointStart]:
        return [start for start in self.starts if start.point == point]

    def failures(self) -> Iterator[PointStart]:
        """Starts that failed by themselves."""
        return (start for start in self.starts if start.cause not in (None, INTERRUPTED))

    @property
    def searching(self) -> int:
        """Starts made, or begun, for the search itself."""
        begun = sum(not launch.is_confirming for launch in self.begun.values())
        return begun + sum(not start.is_confirming for start in self.starts)

    @property
    def confirming(self) -> int:
        begun = sum(launch.is_confirming for launch in self.begun.values())
        return begun + sum(start.is_confirming for start in self.starts)


def fold(task: Task, outcomes: Sequence[Outcome]) -> SweepState:
    """The state after these outcomes."""
    state = SweepState(task)
    for outcome in outcomes:
        _take(state, outcome)
    return state


def _take(state: SweepState, outcome: Outcome) -> None:
    match outcome:
        case Begun():
            state.begun[outcome.slot] = outcome
            state.running.pop(outcome.slot, None)
        case LaunchEnded():
            begun = state.begun.pop(outcome.slot, None)
            is_confirming = outcome.is_confirming or (begun is not None and begun.is_confirming)
            start = PointStart(outcome.point, outcome.cause, outcome.kv_cache_tokens, outcome.minutes, is_confirming)
            state.starts.append(start)
            state.running.pop(outcome.slot, None)
            if outcome.cause is None:
                state.running[outcome.slot] = start
        case Speed() | Soaked():
            _attach(state, outcome)
        case Ended():
            ended = state.running.pop(outcome.slot, None)
            if ended is not None and outcome.cause not in (None, INTERRUPTED):
                ended.died = outcome.cause
    state.minutes += getattr(outcome, "minutes", 0.0)


def _attach(state: SweepState, outcome: Speed | Soaked) -> None:
    """To the start that runs in the outcome's slot; an outcome of another point belongs to no start and is left out."""
    start = state.running.get(outcome.slot)
    if start is None or start.point != outcome.point:
        return
    if isinstance(outcome, Speed):
        start.speeds.append(outcome)
    else:
        start.soaks.append(outcome)
        if outcome.died_at_tokens is not None:
            state.running.pop(outcome.slot)
