"""The chance of something that a start shows as yes or no, for every point, from the points that showed it."""

from __future__ import annotations

import numpy as np

from nexus_orch.sweep.search.regression import Effects, learn
from nexus_orch.sweep.search.space import Array

EFFECTS = Effects(constant=0.1, single=0.22, pairs=0.15, everything=0.2, plan=1e-4, own=0.15)
LEAST, MOST = 0.02, 0.98


def believe_chance(places: Array, shown: dict[int, float], usual: float) -> Array:
    """The chance at each place: the usual one, moved by what was shown (1 yes, 0 no) at these rows."""
    if not shown:
        return np.full(len(places), usual)
    found = learn(places, {row: value - usual for row, value in shown.items()}, EFFECTS)
    chance: Array = np.clip(usual + found.mean, LEAST, MOST)
    return chance
