"""The public check of loaders: the shipped ones pass, and each broken promise is found and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.contracts import CardPass, CardWork, Loader, Need, Placement, Refusal, Rule
from nexus_orch.errors import Problem
from nexus_orch.plan.offload.mechanisms import PREFETCH, Prefetch
from nexus_orch.testing import check_loader
from nexus_orch.testing.loaders import judge_mechanism
from nexus_orch.types import Choice, Facts, Proof, RunSpec
from tests.plan.cases import LOADERS

HYBRID = LOADERS["hybrid"]
RELEASES = ["0.33.0"]


@pytest.mark.parametrize("name", LOADERS)
def test_the_shipped_loaders_keep_their_promises(name: str) -> None:
    check_loader(LOADERS[name])


class _Changed(Loader):
    """The loader hybrid, with each of its placements changed in one way."""

    name = "hybrid"

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        return HYBRID.supports(spec, facts)

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        return [replace(way, **self.changes) for way in HYBRID.offer(needs, spec, facts)]


class _Moody(_Changed):
    def __init__(self) -> None:
        self.count = 0

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        self.count += 1
        return [replace(way, notes=(str(self.count),)) for way in HYBRID.offer(needs, spec, facts)]


class _Ruled(_Changed):
    rules = (
        Rule(("memory.no_such_key", "memory.strategy"), lambda spec: False, "a message", "a remedy"),
        Rule(("memory.swap_gib", "memory.strategy"), lambda spec: True, "a message", ""),
    )


class _Nameless(_Changed):
    name = "my strategy"
    profile = "my profile"


class _Speechless(_Changed):
    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        return Refusal("")


BROKEN: dict[str, tuple[Loader, str]] = {
    "a card is left out": (_Changed(static_pool_bytes=()), "static_pool_bytes has 0 entries for 1 cards"),
    "a card too much": (_Changed(offloaded_bytes=(0, 0, 0)), "offloaded_bytes has 3 entries for 1 cards"),
    "too much leaves a card": (_Changed(offloaded_bytes=(10**15,)), "bytes of a card are offloaded, which has"),
    "no RAM for it": (_Changed(host_bytes=0), "host_bytes is less than what is offloaded"),
    "no mechanism": (_Changed(mechanism=None), "weights are offloaded without a mechanism"),
    "no reason": (
        _Changed(choices=(Choice("memory.cpu_offload_gib", 6.0, "derived", ""),)),
        "the choice of memory.cpu_offload_gib has no reason",
    ),
    "a pin is changed": (
        _Changed(choices=(Choice("memory.cpu_offload_gib", 7.0, "derived", "better"),)),
        "the pinned memory.cpu_offload_gib=6.0 becomes 7.0 (derived)",
    ),
    "no word for it": (
        _Changed(choices=(Choice("memory.swap_gib", 4.0, "derived", "a reason"),)),
        "the release leaves memory.swap_gib out",
    ),
    "no key": (_Changed(problems=(Problem("a mistake"),)), "the problem 'a mistake' has no key"),
    "two answers": (_Moody(), "offer gives two answers to one question"),
    "an unknown key in a rule": (_Ruled(), "there is no setting memory.no_such_key"),
    "a rule without remedy": (_Ruled(), "memory.swap_gib and memory.strategy has no remedy"),
    "a rule that is always broken": (_Ruled(), "is broken by a run that pins nothing but the strategy"),
    "no name": (_Nameless(), "'my strategy' cannot be written as memory.strategy"),
    "no profile": (_Nameless(), "'my profile' is no name of a profile"),
    "a refusal without words": (_Speechless(), "a refusal has no reason or no remedy"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    loader, message = BROKEN[name]
    with pytest.raises(AssertionError) as caught:
        check_loader(loader, releases=RELEASES, models=["qwen14b"])
    assert message in str(caught.value)


class _Odd(Prefetch):
    """Prefetch with other words and figures."""

    def __init__(self, proof: Proof = PREFETCH.proof, **figures: Any) -> None:
        self.proof = proof
        self.figures = figures

    def moved_bytes(self, each: CardPass) -> int:
        return int(self.figures.get("moved", super().moved_bytes(each)))

    def pass_seconds(self, each: CardPass, work: CardWork) -> float | None:
        seconds = self.figures.get("seconds")
        return seconds(each) if seconds else super().pass_seconds(each, work)


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        (_Odd(Proof("")), "no name"),
        (_Odd(Proof("x", patterns=("(",))), "is no regular expression"),
        (_Odd(Proof("x", patterns=(r"(?P<offloaded_gb>\\d+) (?P<ofloaded_gib>\\d+)",))), "did you mean offloaded_gib?"),
        (_Odd(Proof("x", patterns=("no group",))), "has no named group"),
        (_Odd(moved=10**15), "moved_bytes is"),
        (_Odd(seconds=lambda each: None), "nothing is said of the speed"),
        (_Odd(seconds=lambda each: 1e-9), "less than the bus alone"),
        (_Odd(seconds=lambda each: 5.0), "although nothing is known of the bus"),
        (_Odd(seconds=lambda each: each.bus.copy and each.bus.copy / 1e9), "a faster bus makes it slower"),
        (_Odd(seconds=lambda each: each.bus.copy and 5.0 / each.tokens), "a pass of more tokens takes less time"),
    ],
)
def test_a_mechanism_that_cannot_be(mechanism: Prefetch, message: str) -> None:
    assert any(message in broken for broken in judge_mechanism(mechanism))


def test_the_mechanisms_of_vllm_are_sound() -> None:
    mechanisms: Iterator[Any] = iter((PREFETCH, _Odd()))
    assert [list(judge_mechanism(mechanism)) for mechanism in mechanisms] == [[], []]
