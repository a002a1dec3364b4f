"""The score of a search and of the others in one world with one seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.sweep.others import Enough, random_order, run_in_order, run_tpe
from bench.sweep.search import play
from bench.sweep.world import Machine, Player, Settings, World
from nexus_orch.sweep.types import Task

Run = Callable[[Player, Enough], Settings | None]


def score(world: World, task: Task, seed: int, *, with_others: bool = True) -> dict[str, Any]:
    """What `python -m bench.sweep --json` prints of a seed, and the processor's time of the decisions."""
    played = play(task, world.make(seed))
    settings = None if played.pick is None else played.pick.settings
    best = best_speed(world, world.make(seed))
    found = _result(played.player, settings, best, world.make(seed), is_called_stable=played.is_called_stable)
    found = {"seed": seed, **found, "seconds": round(played.seconds, 3), "longest": round(played.longest, 3)}
    return {**found, "others": _others(world, task, seed, played.player, best)} if with_others else found


def best_speed(world: World, machine: Machine) -> float:
    """The speed of the fastest stable point of the whole grid."""
    truths = [machine.truth(settings) for settings in world.all_settings()]
    return max((float(truth["tokens_per_second"]) for truth in truths if truth["stable"]), default=0.0)


def _result(
    player: Player, settings: Settings | None, best: float, machine: Machine, *, is_called_stable: bool
) -> dict[str, Any]:
    truth = None if settings is None else machine.truth(dict(settings))
    is_stable = truth is not None and bool(truth["stable"])
    speed = float(truth["tokens_per_second"]) if truth is not None and is_stable else 0.0
    return {
        "starts": player.starts,
        "failed_starts": player.failed_starts,
        "minutes": round(player.minutes, 1),
        "pick": None if settings is None else dict(settings),
        "quality": round(speed / best, 4) if best > 0 else 0.0,
        "false_stable": bool(settings is not None and is_called_stable and not is_stable),
    }


def _others(world: World, task: Task, seed: int, ours: Player, best: float) -> dict[str, Any]:
    points = world.all_settings()
    runs: dict[str, Run] = {
        "tpe": lambda player, enough: run_tpe(player, world.grid, seed, enough),
        "random": lambda player, enough: run_in_order(player, random_order(points, seed), enough),
        "grid": lambda player, enough: run_in_order(player, points, enough),
    }
    limits: dict[str, Enough] = {
        "equal_starts": lambda player: player.starts >= ours.starts,
        "equal_minutes": lambda player: player.minutes >= ours.minutes,
    }
    found: dict[str, Any] = {}
    for name, run in runs.items():
        for limit, enough in limits.items():
            player = Player(world.make(seed), task.goal.concurrency)
            pick = run(player, enough)
            result = _result(player, pick, best, world.make(seed), is_called_stable=True)
            found.setdefault(name, {})[limit] = result
    return found
