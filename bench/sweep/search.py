"""Our search, played in a world."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from bench.sweep.world import Machine, Player, World
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.sweep.expansion.planned import plan_points
from nexus_orch.sweep.search.decide import decide
from nexus_orch.sweep.types import (
    Finish,
    Goal,
    GridPoint,
    LaunchEnded,
    LaunchPoint,
    Measure,
    Outcome,
    SearchDecision,
    Soak,
    Task,
)

MOST_STEPS = 2000


@dataclass(frozen=True)
class Played:
    """How a whole search went."""

    player: Player
    pick: GridPoint | None
    is_called_stable: bool
    decision: SearchDecision
    outcomes: tuple[Outcome, ...]
    seconds: float
    """The processor's time for all decisions."""
    longest: float
    """The processor's time for the longest decision."""


def make_task(world: World) -> Task:
    """The task that a world sets: its grid over its base, planned, with the usual budget."""
    expansion = plan_points(world.base, world.grid, load_plugins(None), origin=f"{world.name}.py")
    return Task(expansion.points, Goal(concurrency=expansion.concurrency), loads=expansion.loads)


def play(task: Task, machine: Machine) -> Played:
    """The search from its first launch to its end."""
    task = replace(task, loads=())
    player = Player(machine, task.goal.concurrency)
    outcomes: list[Outcome] = []
    times: list[float] = []
    for _ in range(MOST_STEPS):
        begin = time.process_time()
        decision = decide(task, outcomes)
        times.append(time.process_time() - begin)
        step = decision.step
        if isinstance(step, Finish):
            pick = None if step.pick is None else task.points[step.pick]
            is_stable = decision.pick is not None and decision.pick.is_stable
            return Played(player, pick, is_stable, decision, tuple(outcomes), sum(times), max(times))
        outcomes.append(_carry_out(step, player, task))
    raise RuntimeError(f"the search did not end within {MOST_STEPS} steps")


def _carry_out(step: object, player: Player, task: Task) -> Outcome:
    if isinstance(step, LaunchPoint):
        settings = task.points[step.point].settings
        started: LaunchEnded = player.launch(step.point, settings, is_confirming=step.is_confirming)
        return started
    if isinstance(step, Measure):
        return player.measure(step.point, task.points[step.point].settings, step.concurrency)
    if isinstance(step, Soak):
        return player.soak(step.point, task.points[step.point].settings)
    raise TypeError(f"a search with one slot has no step {step!r}")
