"""The kernel of the search's Gaussian processes: effects of single settings, of pairs, of all together, and the plan's.

Most of what moves a speed or a size is the effect of one setting, so that a dozen starts tell much about each. A sum of
components, each with a variance of its own, says that; scikit-learn fits and predicts with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from nexus_orch.sweep.search.space import Array, likeness


class EffectsKernel(Kernel):  # type: ignore[misc] # scikit-learn is untyped
    """The covariance of two points. The last column of a row is what the plan says, the others are places.

    `variances`: constant, each setting, all pairs, everything together, the plan's slope, noise.
    """

    def __init__(self, variances: Array) -> None:
        self.variances = variances

    @property
    def hyperparameter_variances(self) -> Hyperparameter:
        return Hyperparameter("variances", "numeric", (1e-8, 1e2), len(self.variances))

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        parts = self._parts(X, X if Y is None else Y)
        if Y is None:
            parts[-1] = np.eye(len(X))
        weighted = parts * np.asarray(self.variances)[:, None, None]
        covariance = weighted.sum(axis=0)
        return (covariance, np.moveaxis(weighted, 0, -1)) if eval_gradient else covariance

    def diag(self, X: Array) -> Array:  # noqa: N803
        variances = np.asarray(self.variances)
        diagonal: Array = np.full(len(X), variances[:-2].sum()) + variances[-2] * X[:, -1] ** 2
        return diagonal

    def is_stationary(self) -> bool:
        return False

    def _parts(self, X: Array, Y: Array) -> Array:  # noqa: N803
        singles = likeness(X[:, :-1], Y[:, :-1])
        count = len(singles)
        total = singles.sum(axis=0)
        pairs = (total**2 - (singles**2).sum(axis=0)) / max(1, count * (count - 1))
        pairs = pairs if count > 1 else singles[0]
        plan = X[:, -1:] @ Y[:, -1:].T
        ones, zeros = np.ones_like(total), np.zeros_like(total)
        return np.stack([ones, *singles, pairs, singles.prod(axis=0), plan, zeros])
