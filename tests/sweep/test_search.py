"""The rules of the search: what is launched, what is decided without a launch, what is called stable."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.sweep.search.decide import decide
from nexus_orch.sweep.search.stability import failure_bound
from nexus_orch.sweep.types import (
    Begun,
    Budget,
    Finish,
    Goal,
    LaunchEnded,
    LaunchPoint,
    Outcome,
    Soaked,
    Speed,
    Task,
    Wait,
)
from tests.sweep.worlds import EAGER, GRID, LENGTH, SEQS, Machine, make_task, search

CARD = "no_kv_cache_memory"


def launch_of(task: Task, outcomes: list[Outcome], slot: int = 0) -> LaunchPoint:
    step = decide(task, outcomes, slot).step
    assert isinstance(step, LaunchPoint)
    return step


def test_the_plans_best_is_launched_first_and_the_fastest_stable_point_is_picked() -> None:
    task = make_task()
    machine = Machine({number: 300.0 - 10 * abs(number - 11) for number in range(18)})
    assert launch_of(task, []).point == 17
    decision, _ = search(task, machine)
    assert isinstance(decision.step, Finish)
    assert decision.step.pick == 11
    assert decision.pick is not None
    assert decision.pick.is_stable
    assert decision.pick.failure_bound is not None and decision.pick.failure_bound < 0.0025
    assert decision.launches <= 20


def test_a_refused_point_is_never_launched_and_says_the_plans_reason() -> None:
    machine = Machine()
    decision, _ = search(make_task(refused=[17, 16]), machine)
    assert not {17, 16} & set(machine.launched)
    assert [x.reason for x in decision.verdicts if x.by == "plan"] == ["it does not fit"] * 2


def test_points_of_one_command_share_its_start() -> None:
    task = make_task({SEQS: [8, 16], "workload.concurrency": [4, 8]})
    points = tuple(replace(point, engine=point.number - point.number % 2) for point in task.points)
    machine = Machine()
    decision, _ = search(Task(points, loads=(4, 8)), machine)
    assert set(machine.launched) <= {0, 2}
    assert {x.point for x in decision.verdicts if "served by the command of point" in x.reason} == {1, 3}


def test_a_lack_of_memory_decides_points_that_ask_for_more_of_monotone_settings_only() -> None:
    # more context and more sequences ask for more; eager or not is not monotone; the plan must agree
    task = make_task(spare_gib={number: 4.0 - 0.1 * number for number in range(18)})
    number = next(x.number for x in task.points if x.settings == {LENGTH: 8192, SEQS: 16, EAGER: True})
    decided = {x.point: x for x in decide(task, [LaunchEnded(number, CARD)]).verdicts}
    for point in task.points:
        asks_more = point.settings[LENGTH] >= 8192 and point.settings[SEQS] >= 16 and point.settings[EAGER] is True
        assert (point.number in decided) == asks_more
    assert {decided[x].by for x in decided if x != number} == {"dominance"}


def test_where_the_plan_sees_more_memory_left_nothing_is_decided_by_dominance() -> None:
    task = make_task(spare_gib={number: 2.0 + 0.1 * number for number in range(18)})
    assert [x.by for x in decide(task, [LaunchEnded(8, CARD)]).verdicts] == ["started"]


def test_host_memory_is_monotone_the_other_way_around() -> None:
    task = make_task({"memory.cpu_offload_gib": [4, 8, 12]})
    for cause, expected in (("host_oom", {2}), (CARD, {0})):
        verdicts = decide(task, [LaunchEnded(1, cause)]).verdicts
        assert {x.point for x in verdicts if x.by == "dominance"} == expected


@pytest.mark.parametrize("cause", ["disk_full", "gpu_fault", "worker_died", "something new"])
def test_a_cause_that_is_no_memory_fact_decides_nothing_and_is_tried_again_once(cause: str) -> None:
    task = make_task()
    assert decide(task, [LaunchEnded(17, cause)]).verdicts == ()
    machine = Machine(causes={17: [cause]})
    decision, _ = search(task, machine)
    assert machine.launched.count(17) > 1
    assert isinstance(decision.step, Finish) and decision.step.pick == 17
    twice = decide(task, [LaunchEnded(17, cause), LaunchEnded(17, cause)])
    assert [(x.point, x.by) for x in twice.verdicts] == [(17, "started")]


def test_a_measured_lack_of_memory_shifts_the_plan_for_others() -> None:
    """Half of the points have less room than the first start lacked: they are no longer launched."""
    tight = dict.fromkeys(range(0, 18, 2), 0.2)
    task = make_task(spare_gib=tight, speeds=dict.fromkeys(tight, 120.0))
    first = launch_of(task, []).point
    assert task.points[first].settings is not None
    outcomes: list[Outcome] = [LaunchEnded(17, None, 60_000 - 8_000), Speed(17, 16, 100), Speed(17, 16, 100)]
    outcomes += [Soaked(17, 0, 1000, None, 0.0)]
    for _ in range(3):
        step = decide(task, outcomes).step
        if isinstance(step, LaunchPoint):
            assert step.point not in tight
            break
        outcomes.append(Machine().answer(step))


def test_a_spoilt_measurement_is_repeated_and_not_counted() -> None:
    task = make_task()
    decision, outcomes = search(task, Machine(spoilt={17: 2}))
    first = [x for x in outcomes if isinstance(x, Speed)][:4]
    assert [x.is_spoilt for x in first] == [True, True, False, False]
    assert decision.pick is not None and decision.pick.point == 17
    assert decision.pick.tokens_per_second == pytest.approx(117.0)


def test_a_warm_up_that_no_log_line_tells_is_left_out() -> None:
    outcomes: list[Outcome] = [LaunchEnded(17, None, 60_000), Speed(17, 16, 60), Speed(17, 16, 100), Speed(17, 16, 101)]
    pick = decide(make_task(), outcomes).pick
    assert pick is not None
    assert pick.tokens_per_second == pytest.approx(100.5)


def test_a_start_that_something_slowed_down_does_not_count_against_a_point() -> None:
    outcomes: list[Outcome] = []
    for speed in (100.0, 70.0):
        outcomes += [LaunchEnded(17, None, 60_000), *[Speed(17, 16, speed)] * 3]
    pick = decide(make_task(), outcomes).pick
    assert pick is not None
    assert pick.tokens_per_second == pytest.approx(100)


@pytest.mark.parametrize("trouble", ["dies", "leaks", "fails"])
def test_an_unstable_winner_is_dropped_and_the_next_one_taken(trouble: str) -> None:
    machine = Machine({17: 400.0, 16: 300.0}, **{trouble: [17]})  # type: ignore[arg-type]
    decision, _ = search(make_task(), machine)
    assert isinstance(decision.step, Finish)
    assert decision.step.pick == 16
    assert [(x.point, x.by) for x in decision.verdicts if x.by == "unstable"] == [(17, "unstable")]


def test_nothing_is_called_stable_without_two_confirming_starts_and_a_bound() -> None:
    budget = Budget(launches=3, confirmations=0)
    machine = Machine()
    decision, _ = search(make_task(budget=budget), machine)
    assert len(machine.launched) == 3
    assert decision.pick is not None and not decision.pick.is_stable
    assert isinstance(decision.step, Finish) and "before it was confirmed" in decision.step.reason


def test_an_inverted_plan_is_found_out() -> None:
    planned = {number: 100.0 + 20 * number for number in range(18)}
    machine = Machine({number: 500.0 - speed for number, speed in planned.items()})
    decision, _ = search(make_task(speeds=planned), machine)
    assert isinstance(decision.step, Finish) and decision.step.pick == 0


def test_constraints_drop_points_before_and_after_they_are_measured() -> None:
    task = make_task(goal=Goal(max_model_len=8192, first_token_seconds=0.2))
    machine = Machine()
    decision, _ = search(task, machine)
    assert all(task.points[number].settings[LENGTH] >= 8192 for number in machine.launched)
    assert isinstance(decision.step, Finish) and decision.step.pick is None
    assert "within the constraints" in decision.step.reason


def test_slots_never_begin_the_same_point_and_wait_for_each_other_at_the_end() -> None:
    task = make_task(budget=Budget(launches=2, confirmations=2))
    first = launch_of(task, [])
    outcomes: list[Outcome] = [Begun(first.point, slot=0)]
    second = launch_of(task, outcomes, slot=1)
    assert second.point != first.point
    outcomes.append(Begun(second.point, slot=1))
    assert isinstance(decide(task, outcomes, slot=2).step, Wait)


def test_minutes_bound_a_sweep_too() -> None:
    machine = Machine()
    decision, _ = search(make_task(budget=Budget(minutes=70.0)), machine)
    unbounded = Machine()
    search(make_task(), unbounded)
    assert len(machine.launched) < len(unbounded.launched)
    assert decision.minutes < 120


@pytest.mark.parametrize(("failed", "requests", "bound"), [(0, 1240, 0.00241), (1, 1000, 0.00473), (3, 3, 1.0)])
def test_the_bound_on_failures_is_clopper_and_pearsons(failed: int, requests: int, bound: float) -> None:
    assert failure_bound(failed, requests) == pytest.approx(bound, abs=2e-5)
    assert failure_bound(0, 0) is None


CAUSES = st.sampled_from([CARD, "context_too_long", "graph_capture_oom", "host_oom", "gpu_fault", "disk_full", "odd"])
POINTS = st.integers(0, 17)
MACHINES = st.builds(
    Machine,
    st.dictionaries(POINTS, st.floats(1, 1000)),
    st.dictionaries(POINTS, st.one_of(CAUSES, st.lists(CAUSES, max_size=2))),
    st.lists(POINTS, max_size=3),
    st.lists(POINTS, max_size=3),
    st.lists(POINTS, max_size=3),
    st.dictionaries(POINTS, st.integers(0, 5)),
)


@settings(max_examples=12, deadline=None)
@given(MACHINES, st.sets(POINTS, max_size=16), st.builds(Budget, st.integers(1, 6), st.none(), st.integers(0, 4)))
def test_every_search_ends_within_its_budget_and_never_calls_an_unstable_point_stable(
    machine: Machine, refused: set[int], budget: Budget
) -> None:
    task = make_task(refused=sorted(refused), budget=budget)
    decision, outcomes = search(task, machine)
    assert len(machine.launched) <= budget.launches + budget.confirmations
    assert not refused & set(machine.launched)
    assert decision.step == decide(task, outcomes).step, "the same outcomes must lead to the same step"
    assert isinstance(decision.step, Finish)
    if decision.pick is not None and decision.pick.is_stable:
        assert decision.pick.point == decision.step.pick
        assert decision.pick.point not in {*machine.dies, *machine.leaks, *machine.fails}
        assert machine.launched.count(decision.pick.point) >= 2
    ready = [x.point for x in outcomes if isinstance(x, LaunchEnded) and x.cause is None and not x.is_confirming]
    measured = {x.point for x in outcomes if isinstance(x, Speed) and not x.is_spoilt}
    assert len([x for x in ready if x in measured]) == len({x for x in ready if x in measured}), "searched twice"


@settings(max_examples=4, deadline=None)
@given(cut=st.integers(0, 200))
def test_a_search_that_goes_on_from_its_outcomes_ends_as_it_would_have(cut: int) -> None:
    task = make_task()
    whole, outcomes = search(task, Machine())
    again, _ = search(task, Machine(), outcomes[:cut])
    assert again.step == whole.step


def test_the_grid_of_the_tests_has_eighteen_points() -> None:
    assert len(make_task(GRID).points) == 18
