"""What others do with the same machine: Optuna's TPE, random choice, and the grid in its order.

They are given more than they have in practice: what is measured spoilt is measured again, the best so far is soaked in
the same start, a failed start and an unstable point count as speed 0, and a point that comes up twice costs no start.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bench.sweep.world import Player, Settings

MOST_ASKED = 400
Enough = Callable[[Player], bool]


def run_in_order(player: Player, order: Iterable[Settings], enough: Enough) -> Settings | None:
    """LaunchPoint one after the other; the fastest whose soak found nothing."""
    best: tuple[float, Settings | None] = (0.0, None)
    for settings in order:
        if enough(player):
            break
        speed = try_settings(player, settings, best[0])
        best = max(best, (speed, settings), key=lambda found: found[0])
    return best[1]


def try_settings(player: Player, settings: Settings, best: float) -> float:
    """The speed of a point; 0 where it does not start, or is soaked and not stable."""
    if player.launch(0, settings).cause is not None:
        return 0.0
    speed = player.measure(0, settings, player.concurrency)
    for _ in range(2):
        if not speed.is_spoilt:
            break
        speed = player.measure(0, settings, player.concurrency)
    if speed.failed:
        return 0.0
    if speed.tokens_per_second > best:
        soak = player.soak(0, settings)
        slope = soak.memory_slope_bytes_per_hour or 0.0
        if soak.failed or soak.died_at_tokens is not None or slope > 64 * 1024**2:
            return 0.0
    return speed.tokens_per_second


def random_order(points: Sequence[Settings], seed: int) -> Iterator[Settings]:
    order = list(points)
    random.Random(seed).shuffle(order)
    return iter(order)


def run_tpe(player: Player, grid: dict[str, list[Any]], seed: int, enough: Enough) -> Settings | None:
    """Optuna's TPE with its defaults over the places of the values."""
    import optuna  # noqa: PLC0415 - only this comparison needs it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    space: dict[str, optuna.distributions.BaseDistribution] = {
        key: optuna.distributions.CategoricalDistribution(list(range(len(values)))) for key, values in grid.items()
    }
    known: dict[tuple[int, ...], float] = {}
    best: tuple[float, Settings | None] = (0.0, None)
    for _ in range(MOST_ASKED):
        if enough(player):
            break
        trial = study.ask(space)
        places = tuple(trial.params[key] for key in grid)
        if places not in known:
            settings = {key: grid[key][place] for key, place in zip(grid, places, strict=True)}
            known[places] = try_settings(player, settings, best[0])
            best = max(best, (known[places], settings), key=lambda found: found[0])
        study.tell(trial, known[places])
    return best[1]
