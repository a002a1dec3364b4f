"""`decide`: from all outcomes so far to the next step of a slot, and how the sweep stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from nexus_orch.sweep.search.confirm import best_soaked, next_confirmation, settled_pick
from nexus_orch.sweep.search.explore import Outlook, next_launch
from nexus_orch.sweep.search.running import next_on_engine
from nexus_orch.sweep.search.space import Space
from nexus_orch.sweep.search.standing import MeasuredPoint, candidates, list_measured, list_verdicts, make_pick
from nexus_orch.sweep.search.state import SweepState, fold
from nexus_orch.sweep.types import Finish, GridPoint, Outcome, Pick, SearchDecision, Step, Task, Verdict, Wait

_LAST: list[tuple[tuple[GridPoint, ...], Space]] = []


def decide(task: Task, outcomes: Sequence[Outcome], slot: int = 0) -> SearchDecision:
    """The next step of a slot. Pure: the same task and outcomes give the same decision.

    A slot is a set of cards; where several sweep side by side, an outcome `Begun` tells what each has begun.
    """
    state = fold(task, outcomes)
    space = _space_of(task.points)
    measured = list_measured(state)
    verdicts = list_verdicts(state, space, measured)
    step, notes = _next_step(state, space, measured, verdicts, slot)
    return SearchDecision(
        step=step,
        verdicts=tuple(verdicts[number] for number in sorted(verdicts)),
        pick=_pick(state, measured, step),
        launches=len(state.starts) + len(state.begun),
        failed_launches=sum(1 for _ in state.failures()),
        minutes=state.minutes,
        open_points=sum(point.number not in verdicts for point in space.points),
        expected_launches=0 if isinstance(step, Finish) else _launches_left(state),
        expected_minutes=0.0 if isinstance(step, Finish) else _minutes_left(state),
        notes=notes,
    )


def _space_of(points: tuple[GridPoint, ...]) -> Space:
    """The space of these points, made once: a sweep asks for it at each step."""
    if not _LAST or _LAST[0][0] is not points:
        _LAST[:] = [(points, Space.of(points))]
    return _LAST[0][1]


def _next_step(
    state: SweepState, space: Space, measured: Mapping[int, MeasuredPoint], verdicts: Mapping[int, Verdict], slot: int
) -> tuple[Step, tuple[str, ...]]:
    running = state.running.get(slot)
    if running is not None:
        step = next_on_engine(state, running, measured)
        if step is not None:
            return step, ()
    outlook = Outlook.of(state, space, measured, verdicts)
    launch = next_launch(state, outlook)
    if launch is not None:
        return launch, outlook.notes
    if any(not begun.is_confirming for begun in state.begun.values()):
        return Wait("another slot still searches"), outlook.notes
    confirmation = next_confirmation(state, measured)
    if confirmation is not None:
        return confirmation, outlook.notes
    if state.begun:
        return Wait("another slot still confirms"), outlook.notes
    return _finish(state, measured), outlook.notes


def _finish(state: SweepState, measured: Mapping[int, MeasuredPoint]) -> Finish:
    settled = settled_pick(state, measured)
    if settled is not None:
        told = f"point {settled.point} is the fastest that is stable, confirmed by {settled.confirming} starts"
        return Finish(settled.point, told)
    if not measured:
        return Finish(None, "no point became ready and was measured")
    best = best_soaked(state, measured)
    if best is not None:
        told = f"point {best.point} is the fastest that was soaked; the budget was used before it was confirmed"
        return Finish(best.point, told)
    return Finish(None, "no point that was measured is stable within the constraints")


def _pick(state: SweepState, measured: Mapping[int, MeasuredPoint], step: Step) -> Pick | None:
    settled = settled_pick(state, measured)
    if settled is not None:
        return make_pick(settled, is_stable=True, reason="the fastest that was soaked and confirmed")
    if isinstance(step, Finish):
        best = best_soaked(state, measured)
        return None if best is None else make_pick(best, is_stable=False, reason=step.reason)
    found = candidates(measured, state.task.goal)
    if not found:
        return None
    return make_pick(found[0], is_stable=False, reason="the fastest so far, not confirmed yet")


def _launches_left(state: SweepState) -> int:
    budget = state.task.budget
    return max(0, budget.launches - state.searching) + max(0, min(2, budget.confirmations) - state.confirming)


def _minutes_left(state: SweepState) -> float:
    costs = state.task.costs
    seen = [start.minutes for start in state.starts if start.minutes > 0]
    launch = median(seen) if seen else costs.launch
    return _launches_left(state) * (launch + 2 * costs.measure) + 4 * costs.soak
