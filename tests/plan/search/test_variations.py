"""The list of what could be changed: what each change makes of a run, which pins rule it out, and when it is no use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.plan.search.variations import KINDS, LET_GO, Base, let_go, letting_go, other_formats, vary
from nexus_orch.types import ModelFacts, Variation
from tests.plan.cases import make_facts, make_gpu, make_spec, plan_of

MODEL = "Qwen/Qwen3-8B"
CARD = make_gpu()
SAMPLES: dict[str, Any] = {
    "context": 4096,
    "strategy": "hybrid",
    "requests_at_once": 24,
    "offloaded_amount": 1.5,
    "cache_size": 2.0,
}
"""A value for each kind that has none of its own."""


def _base(*cards: Any, planned: bool = True, **pinned: Any) -> Base:
    keys = {key.replace("__", "."): value for key, value in pinned.items()}
    plan = plan_of(MODEL, *cards, settings=keys) if planned else None
    return Base(make_spec(keys), make_facts(MODEL, *cards), plan)


def _vary(name: str, base: Base) -> list[Variation]:
    return list(vary(name, base, [SAMPLES[name]] if name in SAMPLES else None))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_is_tried_somewhere_and_makes_what_its_override_says(name: str) -> None:
    base = _base() if name == "cache_size" else _base(CARD)
    found = _vary(name, base)
    assert found
    for variation in found:
        spec, facts = variation.apply(base.spec, base.facts)
        assert variation.name == name
        assert (spec, facts) != (base.spec, base.facts)
        (override,) = variation.overrides
        key, _, value = override.partition("=")
        assert key == KINDS[name].key
        if name == "more_cards":
            assert int(value) == len(facts.machine.gpus) == 1 + variation.more_cards
        else:
            assert str(spec.get(key)).removesuffix(".0") == value


@pytest.mark.parametrize(("name", "pinned"), [("narrow_cache", "fp8"), ("larger_share", 0.95), ("smaller_batch", 2048)])
def test_what_the_plan_does_already_is_no_change(name: str, pinned: Any) -> None:
    base = _base(CARD, **{KINDS[name].key.replace(".", "__"): pinned})
    assert _vary(name, base) == []
    assert _vary(name, _base(CARD)) != []


@pytest.mark.parametrize(
    ("pins", "helps"),
    [
        ({}, True),
        ({"serve__tensor_parallel": 1}, True),  # stages of a pipeline take the others
        ({"serve__pipeline_parallel": 1}, True),
        ({"serve__tensor_parallel": 1, "serve__pipeline_parallel": 1}, False),
    ],
)
def test_more_cards_are_no_use_where_both_numbers_of_ranks_are_pinned(pins: dict[str, int], *, helps: bool) -> None:
    assert bool(_vary("more_cards", _base(CARD, planned=False, **pins))) is helps


def test_a_cpu_engine_is_offered_nothing_that_is_about_cards() -> None:
    offered = {name for name in KINDS if _vary(name, _base())}
    assert offered == {"context", "cache_size", "requests_at_once"}


@given(st.sets(st.sampled_from([key for group in LET_GO for key in group])))
def test_every_pin_can_be_let_go_once_and_nothing_else_is(keys: set[str]) -> None:
    spec = make_spec()
    for key in keys:
        spec = spec.with_value(key, 1)
    base = Base(spec, make_facts(MODEL, CARD))
    found = [key for variation in let_go(base) for key in variation.values]
    assert sorted(found) == sorted(keys)
    for variation in let_go(base):
        changed, _ = variation.apply(base.spec, base.facts)
        assert all(changed.is_open(key) for key in variation.values)
        assert all(override.endswith("=auto") for override in variation.overrides)


def test_a_change_can_let_pins_go_that_it_could_not_stand_beside() -> None:
    base = _base(CARD, planned=False, memory__cpu_offload_gib=4.0)
    (other,) = vary("strategy", base, ["vram_only"])
    both = letting_go(other, base, ("memory.cpu_offload_gib", "memory.offload_backend"))
    assert both.change == "memory.strategy=vram_only memory.cpu_offload_gib=auto"
    assert not both.is_open(base.spec) and other.is_open(base.spec)


def test_another_format_is_another_model() -> None:
    other = ModelFacts("small", "/models/small", {"quantization_config": {"quant_method": "awq"}}, "profile")
    (variation,) = other_formats(_base(CARD), {"qwen_awq": other})
    spec, facts = variation.apply(make_spec({"model.quantization": "fp8"}), make_facts(MODEL, CARD))
    assert (spec.model.name, spec.model.path, spec.model.quantization) == ("qwen_awq", "/models/small", None)
    assert (facts.model, variation.change, variation.price) == (other, "model=qwen_awq", "awq weights")
