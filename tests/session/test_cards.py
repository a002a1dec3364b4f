"""Which cards of the machine a run looks at: its own, and none that others use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.plan.make import make_plan
from nexus_orch.session.run import find_cards
from nexus_orch.types import Facts
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


def _find(settings: dict[str, Any] | None = None, *, cards: int = 4, facts: Facts | None = None) -> object:
    facts = facts or make_facts(MODEL, *[make_gpu()] * cards)
    return find_cards(make_plan(make_spec(settings), facts, LOADERS), facts)


def test_the_first_visible_cards_are_taken() -> None:
    assert _find() == (0,)
    assert _find({"serve.tensor_parallel": 2}) == (0, 1)


def test_visible_cards_keep_their_numbers() -> None:
    """CUDA_VISIBLE_DEVICES=3,1: the engine's first card is the third of NVML."""
    facts = make_facts(MODEL, make_gpu(), make_gpu())
    gpus = tuple(replace(gpu, index=index) for gpu, index in zip(facts.machine.gpus, (3, 1), strict=True))
    assert _find(facts=replace(facts, machine=replace(facts.machine, gpus=gpus))) == (3,)


@pytest.mark.parametrize("settings", [None, {"engine.env": {"CUDA_VISIBLE_DEVICES": "2"}}])
def test_cards_that_are_not_known_are_not_guessed(settings: dict[str, Any] | None) -> None:
    assert _find(settings, cards=4 if settings else 0) is None


def test_a_profile_of_another_machine_names_no_card() -> None:
    facts = make_facts(MODEL, make_gpu())
    assert _find(facts=replace(facts, machine=replace(facts.machine, is_this_machine=False))) is None


def test_cards_that_were_chosen_among_unlike_ones() -> None:
    small = make_gpu(name="RTX 3050", total_bytes=2 * 2**30, free_bytes=2 * 2**30)
    facts = make_facts(MODEL, small, make_gpu())
    assert _find(facts=facts) == (1,)
