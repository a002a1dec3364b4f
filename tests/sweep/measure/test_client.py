"""Our own client: what it counts, and when it gives up."""

from __future__ import annotations

import random
import statistics
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.sweep.measure.client import (
    Answer,
    Ask,
    Crowd,
    find_quantile,
    make_asks,
    make_figures,
    make_prompt,
    measure_by_ourselves,
)
from nexus_orch.sweep.measure.types import Load, MeasureCancelled, make_load
from nexus_orch.testing import FakeEngine
from tests.sweep.measure.conftest import Serve


def test_every_request_is_counted_with_its_tokens(serve: Serve) -> None:
    figures = measure_by_ourselves(serve(FakeEngine(tokens_per_second=200)), Load(4, 32, 20, 12), seed=1)
    assert (figures.requests, figures.failed, figures.error) == (12, 0, "")
    assert figures.tokens_per_second == pytest.approx(12 * 20 / figures.seconds, rel=0.01)
    assert figures.inter_token_seconds is not None
    assert figures.inter_token_seconds >= 1 / 200
    assert figures.first_token_seconds is not None
    assert figures.first_token_p95_seconds is not None
    assert figures.first_token_p95_seconds >= figures.first_token_seconds


def test_a_refusal_is_a_failure_with_its_reason(serve: Serve) -> None:
    figures = measure_by_ourselves(serve(FakeEngine(completions="error")), Load(2, 8, 4, 6), seed=1)
    assert (figures.failed, figures.tokens_per_second, figures.first_token_seconds) == (6, 0.0, None)
    assert "HTTP 500" in figures.error


def test_a_server_that_hangs_is_given_up(serve: Serve) -> None:
    figures = measure_by_ourselves(serve(FakeEngine(completions="hang"), stall_seconds=0.5), Load(3, 8, 4, 6), seed=1)
    assert figures.failed == 6
    assert "no request got a token for 0.5 s" in figures.error


def test_a_cancelled_measurement_ends(serve: Serve) -> None:
    cancel = threading.Event()
    target = serve(FakeEngine(completions="hang"), cancel=cancel)
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(MeasureCancelled):
        measure_by_ourselves(target, Load(2, 8, 4, 4), seed=1)


def test_a_client_that_leaves_early_has_got_what_it_waited_for(serve: Serve) -> None:
    target = serve(FakeEngine(tokens_per_second=100))
    (answer,) = Crowd(target, 1).send([Ask(make_prompt(random.Random(1), 8), 500, leaves_after=3)])
    assert answer.is_good
    assert answer.tokens == 3


def test_no_two_prompts_begin_alike() -> None:
    asks = [ask.prompt[:4] for seed in range(20) for ask in make_asks(make_load(8, 16, 4), seed)]
    assert len(set(asks)) == len(asks)


@given(st.lists(st.floats(0, 1e6), min_size=2))
def test_quantiles_are_those_of_the_standard_library(values: list[float]) -> None:
    expected = statistics.quantiles(values, n=20, method="inclusive")[18]
    assert find_quantile(values, 0.95) == pytest.approx(expected, abs=1e-5)
    assert find_quantile(values[:1], 0.95) == pytest.approx(values[0], abs=1e-5)
    assert find_quantile([], 0.95) is None


def test_a_request_that_was_never_answered_failed_too() -> None:
    answers = [Answer(0.0, (1.0, 2.0, 3.0), 3), Answer(0.5, (), 0, "HTTP 500")]
    figures = make_figures(answers, Load(2, 8, 3, 5))
    assert (figures.failed, figures.error) == (4, "HTTP 500")
    assert figures.tokens_per_second == 1.0
