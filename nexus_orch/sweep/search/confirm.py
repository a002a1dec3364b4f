"""Confirming: the winner is started again, beside its nearest rival, soaked, and dropped when it is not stable."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_orch.sweep.search.readiness import is_hopeless
from nexus_orch.sweep.search.standing import MeasuredPoint, candidates
from nexus_orch.sweep.search.state import SweepState
from nexus_orch.sweep.types import LaunchPoint

NEEDED_STARTS = 2
"""Confirming starts of a pick."""
RIVAL = 0.975
"""A point with at least this share of the winner's speed is its rival: repeats of both are interleaved."""


def settled_pick(state: SweepState, measured: Mapping[int, MeasuredPoint]) -> MeasuredPoint | None:
    """The fastest point that was confirmed, soaked and bounded; None where there is none yet."""
    found = [x for x in candidates(measured, state.task.goal) if is_confirmed(x, state)]
    return found[0] if found else None


def best_soaked(state: SweepState, measured: Mapping[int, MeasuredPoint]) -> MeasuredPoint | None:
    """The best that an exhausted budget leaves: points with a confirming start first, then the fastest."""
    found = [x for x in candidates(measured, state.task.goal) if x.health.soaks]
    return max(found, key=lambda x: (x.confirming > 0, x.speed, -x.point), default=None)


def is_confirmed(point: MeasuredPoint, state: SweepState) -> bool:
    bound = point.health.bound
    if bound is None or bound > state.task.goal.failure_bound:
        return False
    return point.confirming >= NEEDED_STARTS and point.soaked_starts >= NEEDED_STARTS


def next_confirmation(state: SweepState, measured: Mapping[int, MeasuredPoint]) -> LaunchPoint | None:
    """The next confirming start; None when the winner is confirmed or the budget is used."""
    begun = {launch.point for launch in state.begun.values()}
    budget = state.task.budget
    left = budget.confirmations + max(0, budget.launches - state.searching) - state.confirming
    ranked = [x for x in candidates(measured, state.task.goal) if not is_hopeless(x.point, state.starts)]
    if left <= 0 or not ranked:
        return None
    winner = ranked[0]
    if is_confirmed(winner, state):
        return None
    rivals = [x for x in ranked[1:] if x.speed >= RIVAL * winner.speed and not x.confirming and x.health.soaks]
    needs = NEEDED_STARTS - winner.confirming
    if winner.confirming and not any(x.confirming for x in ranked[1:]) and rivals and left > needs:
        rival = rivals[0].point
        if rival not in begun:
            return LaunchPoint(
                rival, f"it is within 2.5 % of point {winner.point}: their repeats are interleaved", True
            )
    finishing = _affordable(ranked, left)
    if finishing is None or finishing.point in begun:
        return None
    return LaunchPoint(finishing.point, f"confirming start {finishing.confirming + 1} of the fastest point", True)


def _affordable(ranked: list[MeasuredPoint], left: int) -> MeasuredPoint | None:
    """The fastest point that the starts left can still confirm."""
    return next((x for x in ranked if 0 < NEEDED_STARTS - x.confirming <= left), None)
