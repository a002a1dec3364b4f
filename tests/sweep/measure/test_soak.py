"""The soak on a fake engine: how far it goes, and what ends it."""

from __future__ import annotations

import itertools
import threading

import pytest

from nexus_orch.sweep.measure.client import Answer, Ask, Crowd
from nexus_orch.sweep.measure.soak import LEAVES, TURNS, Soaking, SoakOrder
from nexus_orch.sweep.measure.types import MeasureCancelled
from nexus_orch.testing import FakeEngine
from tests.sweep.measure.conftest import Serve

ORDER = SoakOrder(concurrency=3, max_model_len=256, output_tokens=8, requests=60, minutes=5, watch_seconds=0)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[Ask]]:
    """All that is sent, batch by batch, to the real server."""
    batches: list[list[Ask]] = []
    send = Crowd.send

    def note(crowd: Crowd, asks: object) -> list[Answer]:
        batches.append(list(asks))  # type: ignore[call-overload]
        return send(crowd, batches[-1])

    monkeypatch.setattr(Crowd, "send", note)
    return batches


def test_contexts_accumulate_to_the_allowed_length(serve: Serve, sent: list[list[Ask]]) -> None:
    result = Soaking(serve(FakeEngine()), ORDER).run()
    assert (result.failed, result.error, result.died_at_tokens) == (0, "", None)
    assert result.requests >= ORDER.requests
    assert result.longest_tokens == ORDER.max_model_len
    fill, *turns = sent
    assert {len(ask.prompt) + ask.output_tokens for ask in fill} == {ORDER.max_model_len}
    assert sum(ask.leaves_after is not None for ask in fill) == len(fill) // LEAVES == result.left_early
    for earlier, later in itertools.pairwise(turns[:TURNS]):
        assert all(ask.prompt[: len(old.prompt)] == old.prompt for old, ask in zip(earlier, later, strict=True))
    assert len(turns[TURNS - 1][0].prompt) == ORDER.max_model_len - ORDER.answer_tokens


def test_the_first_conversation_comes_to_its_end_however_short_the_time_is(serve: Serve) -> None:
    result = Soaking(serve(FakeEngine()), SoakOrder(2, 512, 4, requests=10_000, minutes=0)).run()
    assert result.longest_tokens == 512
    assert result.requests < 100


def test_an_engine_that_dies_is_told_with_the_length(serve: Serve) -> None:
    result = Soaking(serve(FakeEngine(dies_after_requests=30), stall_seconds=5.0), ORDER).run()
    assert result.failed
    assert result.died_at_tokens is not None
    assert result.died_at_tokens <= ORDER.max_model_len


def test_it_can_be_cut_off(serve: Serve) -> None:
    cancel = threading.Event()
    soaking = Soaking(serve(FakeEngine(tokens_per_second=20), cancel=cancel), ORDER)
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(MeasureCancelled):
        soaking.run()
    assert soaking.progress.longest_tokens == ORDER.max_model_len
