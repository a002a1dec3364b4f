"""The chance of something that a start shows as yes or no, for every point, from the points that showed it."""

from __future__ import annotations

import numpy as np

from nexus_orch.sweep.search.regression import Effects, learn
from nexus_orch.sweep.search.space import Array

EFFECTS = Effects(constant=0.1, single=0.2, pairs=0.2, everything=0.3, plan=1e-4, own=0.1)
LEAST, MOST = 0.02, 0.98


def believe_chance(
    places: Array, shown: dict[int, float], usual: float, doubts: dict[int, float] | None = None
) -> Array:
    """The chance at each place: the usual one, moved by what was shown (1 yes, 0 no) at these rows, and how sure."""
    if not shown:
        return np.full(len(places), usual)
    errors = None if doubts is None else [doubts[row] for row in shown]
    found = learn(places, {row: value - usual for row, value in shown.items()}, EFFECTS, errors=errors)
    chance: Array = np.clip(usual + found.mean, LEAST, MOST)
    return chance
