"""The plan reads the configuration that the engine will have, and leaves out what it does not load."""

from __future__ import annotations

import pytest

from nexus_orch.adapt.overrides import override_config
from nexus_orch.plan.asked.inputs import read_inputs
from tests.plan.cases import make_facts, make_gpu, make_spec

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
SEES = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize(
    "settings", [{"model.rope_scaling": YARN}, {"model.hf_overrides": {"rope_scaling": YARN}}], ids=["own", "override"]
)
def test_stretched_positions_lift_the_context(settings: dict[str, object]) -> None:
    spec, facts = make_spec(settings), make_facts("Qwen/Qwen2.5-7B-Instruct", make_gpu())
    model = override_config(facts.model, spec, facts.engine)
    assert model.config["rope_scaling"] == YARN
    assert any(key in model.notes[-1] for key in settings)


def test_without_overrides_the_model_is_as_it_was() -> None:
    facts = make_facts("Qwen/Qwen2.5-7B-Instruct", make_gpu())
    assert override_config(facts.model, make_spec({}), facts.engine) is facts.model


@pytest.mark.parametrize(
    ("settings", "serves"),
    [
        ({"model.language_model_only": True}, False),
        ({"model.limit_mm_per_prompt": {"image": 0}}, False),
        ({"model.limit_mm_per_prompt": {"image": 0, "video": 1}}, True),
        ({"model.limit_mm_per_prompt": {"image": 4}}, True),
        ({}, True),
    ],
)
def test_towers_that_nothing_may_use_count_for_nothing(settings: dict[str, object], serves: bool) -> None:
    inputs = read_inputs(make_spec(settings), make_facts(SEES, make_gpu(), version="0.33.0"), ())
    assert inputs.serves_images is serves
    assert bool(inputs.architecture.vision) is serves
