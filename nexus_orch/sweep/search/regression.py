"""What is learned at some points, everywhere: scikit-learn's Gaussian process over the effects of settings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from nexus_orch.sweep.search.space import Array

FEWEST_TO_FIT = 4
"""Values from which on the effects themselves are fitted; fewer say nothing of them."""


@dataclass(frozen=True)
class Effects:
    """The standard deviations that are expected of effects."""

    constant: float
    single: float
    """Of each setting."""
    pairs: float
    everything: float
    """Of all settings together."""
    plan: float
    """Of the plan's slope."""
    own: float
    """Of a point alone: nothing of it is expected of others."""


FREEDOM = Effects(0.5, 1.2, 0.8, 0.8, 0.8, 0.4)
"""Standard deviations of the logarithm of each variance, where the effects are fitted."""


@dataclass(frozen=True)
class Everywhere:
    """Means and standard deviations at all places."""

    mean: Array
    deviation: Array
    left_out: dict[int, tuple[float, float]]
    """By row that was learned, mean and standard deviation of its value as the others alone let expect it."""


def learn(
    places: Array,
    shown: dict[int, float],
    effects: Effects,
    *,
    plan: Array | None = None,
    errors: Sequence[float] | None = None,
    fits: bool = False,
) -> Everywhere:
    """What the values shown at some rows, with their standard errors, say of all places.

    `plan` is what the plan says of each place. With `fits` the effects' variances are those that are most likely by
    the values and by what is expected of them.
    """
    process_class, kernel_class, warning = _library()
    inputs = np.column_stack([places, np.zeros(len(places)) if plan is None else plan])
    expected = _spread(effects, places.shape[1]) ** 2
    optimizer = _make_optimizer(expected, places.shape[1]) if fits and len(shown) >= FEWEST_TO_FIT else None
    noise = np.zeros(len(shown)) if errors is None else np.array(errors)
    process = process_class(kernel_class(expected), alpha=noise**2 + 1e-8, optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", warning)
        process.fit(inputs[list(shown)], np.array(list(shown.values())))
    mean, deviation = process.predict(inputs, return_std=True)
    return Everywhere(mean, deviation, _leave_out(process, list(shown)))


def _leave_out(process: Any, rows: list[int]) -> dict[int, tuple[float, float]]:
    """Each learned value as the others let expect it (Rasmussen and Williams 2006, equations 5.10 to 5.12)."""
    inverse = np.linalg.inv(process.L_ @ process.L_.T)
    spread = 1 / np.diag(inverse)
    expected = process.y_train_ - (inverse @ process.y_train_) * spread
    return {row: (float(expected[i]), float(np.sqrt(spread[i]))) for i, row in enumerate(rows)}


def _spread(effects: Effects, settings: int) -> Array:
    singles = [effects.single] * settings
    return np.array([effects.constant, *singles, effects.pairs, effects.everything, effects.plan, effects.own])


def _make_optimizer(expected: Array, settings: int) -> Any:
    """An optimizer of scikit-learn's kind for the variances: their likelihood times what is expected of them."""
    from scipy.optimize import minimize  # noqa: PLC0415 - its import takes a while

    freedom = _spread(FREEDOM, settings)

    def optimize(objective: Any, initial: Array, bounds: Any) -> tuple[Array, float]:
        def penalized(theta: Array) -> tuple[float, Array]:
            value, gradient = objective(theta)
            away = (theta - np.log(expected)) / freedom
            return value + 0.5 * float(away @ away), gradient + away / freedom

        found = minimize(penalized, initial, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
        return found.x, float(found.fun)

    return optimize


@cache
def _library() -> tuple[Any, Any, Any]:
    """The classes that are needed. Their import takes a second and sets variables (KMP_...) that an engine would
    inherit: they are taken back."""
    before = set(os.environ)
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415

    from nexus_orch.sweep.search.kernel import EffectsKernel  # noqa: PLC0415

    for name in set(os.environ) - before:
        del os.environ[name]
    return GaussianProcessRegressor, EffectsKernel, ConvergenceWarning
