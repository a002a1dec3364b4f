"""What a spec asks of a sweep, in the nouns of the search. Pure."""

from __future__ import annotations

from typing import Literal, cast

from nexus_orch.sweep.expansion.planned import Expansion
from nexus_orch.sweep.types import Budget, Costs, Goal, Task
from nexus_orch.types import SweepSpec

SOAK_SHARE = 1.2
"""A soak takes a little longer than its conversations may: the last answers are waited for."""


def make_task(expansion: Expansion, asked: SweepSpec) -> Task:
    """The search over these points."""
    goal = Goal(
        objective=cast("Literal['tokens_per_second']", asked.objective),
        concurrency=expansion.concurrency,
        first_token_seconds=asked.constraints.first_token_seconds,
        max_model_len=asked.constraints.max_model_len,
        failure_bound=asked.failure_bound,
    )
    budget = Budget(asked.launches, asked.minutes, asked.confirmations)
    costs = Costs(soak=min(Costs().soak, SOAK_SHARE * asked.soak_minutes))
    return Task(expansion.points, goal, budget, costs, expansion.loads)
