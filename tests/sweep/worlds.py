"""Small tasks and machines for the tests of a sweep's search."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexus_orch.sweep.search.decide import decide
from nexus_orch.sweep.types import (
    Budget,
    Finish,
    Goal,
    GridPoint,
    LaunchEnded,
    LaunchPoint,
    Measure,
    Outcome,
    Prior,
    SearchDecision,
    Soak,
    Soaked,
    Speed,
    Step,
    Task,
)

BASE = ("hardware=rtx4090", "model=qwen14b", "memory=hybrid", "engine.version=0.32.0")
GIB = 1024**3
LENGTH, SEQS, EAGER = "model.max_model_len", "serve.max_num_seqs", "memory.enforce_eager"
GRID: dict[str, list[Any]] = {LENGTH: [4096, 8192, 16384], SEQS: [8, 16, 32], EAGER: [True, False]}


def make_prior(spare_gib: float = 4.0, speed: float | None = 100.0, **changes: Any) -> Prior:
    values: dict[str, Any] = {
        "fits": spare_gib >= 0,
        "borderline": False,
        "spare_bytes": int(spare_gib * GIB),
        "budget_bytes": 20 * GIB,
        "token_bytes": 131072.0,
        "kv_cache_tokens": 60_000,
        "kv_cache_tokens_low": 55_000,
        "kv_cache_tokens_high": 65_000,
        "max_model_len": 8192,
        "most_requests": 16,
        "tokens_per_second": speed,
        "first_token_seconds": 0.5,
    }
    return Prior(**{**values, **changes})


def make_task(
    grid: Mapping[str, Sequence[Any]] = GRID,
    *,
    speeds: Mapping[int, float] | None = None,
    spare_gib: Mapping[int, float] | None = None,
    refused: Sequence[int] = (),
    goal: Goal | None = None,
    budget: Budget | None = None,
) -> Task:
    """A task over a grid; planned speeds and spare memory by point number, the same for all others."""
    points = []
    for number, values in enumerate(itertools.product(*grid.values())):
        settings = dict(zip(grid, values, strict=True))
        prior = make_prior(
            (spare_gib or {}).get(number, 4.0),
            (speeds or {}).get(number, 100.0 + number),
            max_model_len=settings.get(LENGTH, 8192),
        )
        refusal = "it does not fit" if number in refused else None
        overrides = tuple(f"{key}={value}" for key, value in settings.items())
        points.append(GridPoint(number, settings, overrides, number, prior, refusal))
    return Task(tuple(points), goal or Goal(), budget or Budget())


@dataclass
class Machine:
    """A machine without noise: speeds, causes, and troubles by point number; a list of causes is used up in order."""

    speeds: Mapping[int, float] = field(default_factory=dict)
    causes: Mapping[int, str | list[str | None]] = field(default_factory=dict)
    dies: Sequence[int] = ()
    leaks: Sequence[int] = ()
    fails: Sequence[int] = ()
    spoilt: Mapping[int, int] = field(default_factory=dict)
    """How many of a point's first measurements are spoilt."""
    launched: list[int] = field(default_factory=list)
    measured: dict[int, int] = field(default_factory=dict)

    def answer(self, step: Step) -> Outcome:
        if isinstance(step, LaunchPoint):
            cause = self.causes.get(step.point)
            if isinstance(cause, list):
                cause = cause.pop(0) if cause else None
            self.launched.append(step.point)
            return LaunchEnded(step.point, cause, None if cause else 60_000, 3.0, step.is_confirming)
        if isinstance(step, Measure):
            count = self.measured[step.point] = self.measured.get(step.point, 0) + 1
            speed = self.speeds.get(step.point, 100.0 + step.point)
            is_spoilt = count <= self.spoilt.get(step.point, 0)
            return Speed(
                step.point, step.concurrency, speed * (0.5 if is_spoilt else 1), 0.3, requests=64, is_spoilt=is_spoilt
            )
        assert isinstance(step, Soak)
        failed = 2 if step.point in self.fails else 0
        died = 23_000 if step.point in self.dies else None
        slope = 90e6 if step.point in self.leaks else 1e5
        return Soaked(step.point, failed, 1000, died, slope)


def search(task: Task, machine: Machine, outcomes: Sequence[Outcome] = ()) -> tuple[SearchDecision, list[Outcome]]:
    """The whole search on a machine, after these outcomes: its last decision, and all outcomes."""
    known = list(outcomes)
    for _ in range(500):
        decision = decide(task, known)
        if isinstance(decision.step, Finish):
            return decision, known
        known.append(machine.answer(decision.step))
    raise AssertionError("the search did not end within 500 steps")
