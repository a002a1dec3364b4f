"""A server that is busy and gives no token: suspected by silence, judged by the one token that does not come."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.judge.start.hang import LEAST_SECONDS, UNKNOWN_SECONDS, find_silence, is_suspect
from nexus_orch.judge.start.offload import Expected
from nexus_orch.testing.plans import make_settings_plan
from nexus_orch.types import Degraded, Failed, Prediction, Ready
from tests.judge.histories import History

BUSY = {"running": 2.0, "generation_tokens_per_second": 0.0, "prompt_tokens_per_second": 0.0}
WORKING = BUSY | {"generation_tokens_per_second": 40.0}
EXPECTED = Expected(silence_seconds=60.0)


def test_a_busy_server_without_a_token_is_asked_for_one_and_then_given_up() -> None:
    history = History().ready().metric(**WORKING).metric(after=59, **BUSY)
    assert not is_suspect(history.state(EXPECTED))
    history = history.metric(after=1, **BUSY)
    assert is_suspect(history.state(EXPECTED)) and isinstance(history.state(EXPECTED).verdict, Ready)
    verdict = history.completion(ok=False, after=30).state(EXPECTED).verdict
    assert isinstance(verdict, Failed) and verdict.cause == "engine_dead"
    assert verdict.evidence[0].startswith("no token for 90 s while 2 requests were running, and one token")


def test_a_token_that_comes_ends_the_suspicion() -> None:
    history = History().ready().metric(**WORKING).metric(after=70, **BUSY).completion(ok=True)
    assert not is_suspect(history.state(EXPECTED))


def test_an_idle_server_is_no_suspect() -> None:
    history = History().ready().metric(**WORKING).metric(after=7000, running=0.0)
    assert not is_suspect(history.state(EXPECTED))


def test_a_completion_that_failed_before_the_silence_proves_nothing() -> None:
    history = History().ready().completion(ok=False).metric(after=1, running=0.0).metric(after=61, **BUSY)
    assert is_suspect(history.state(EXPECTED))
    assert isinstance(history.state(EXPECTED).verdict, Degraded)


@pytest.mark.parametrize(
    ("first", "batch", "seconds"), [(None, 8192, UNKNOWN_SECONDS), (0.1, 2048, LEAST_SECONDS), (8.0, 2048, 160.0)]
)
def test_the_slowest_step_is_the_largest_batch_of_prompts(first: float | None, batch: int, seconds: float) -> None:
    plan = make_settings_plan({"serve.max_num_batched_tokens": batch})
    assert find_silence(replace(plan, prediction=Prediction(time_to_first_token_seconds=first))) == seconds


@given(st.lists(st.tuples(st.booleans(), st.floats(1, 50)), max_size=40))
def test_a_server_that_moves_at_least_every_minute_never_hangs(moves: list[tuple[bool, float]]) -> None:
    """Whatever the completions say in between: each silence is shorter than the patience."""
    history = History().ready()
    for works, after in moves:
        history.metric(after=after, **(WORKING if works else BUSY))
        if not works:
            history.metric(after=1, **WORKING)
    assert not isinstance(history.state(EXPECTED).verdict, Failed)
