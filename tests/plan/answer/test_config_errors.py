"""Configurations that cannot be read: everything that is wrong is named, and nothing but ConfigError comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.errors import ConfigError
from nexus_orch.plan import parse_architecture
from tests.plan.cases import config_of, models, plan_of


def _problem_keys(config: dict[str, Any]) -> set[str | None]:
    with pytest.raises(ConfigError) as caught:
        parse_architecture(config)
    return {problem.key for problem in caught.value.problems}


def test_every_missing_field_is_listed() -> None:
    keys = _problem_keys({"model_type": "llama", "hidden_size": 4096})
    assert keys == {
        f"model.config.{name}"
        for name in ("num_attention_heads", "intermediate_size", "num_hidden_layers", "vocab_size")
    }


def test_nested_fields_are_named_with_their_section() -> None:
    config = config_of("google/gemma-3-4b-it")
    text = {key: value for key, value in config["text_config"].items() if key != "intermediate_size"}
    keys = _problem_keys({**config, "text_config": text})
    assert keys == {"model.config.text_config.intermediate_size"}


@pytest.mark.parametrize("value", ["4096", 40.5, True, -1, 0, 10**12, [1]])
def test_a_wrong_value_is_shown(value: object) -> None:
    config = {**config_of("meta-llama/Llama-3.1-8B-Instruct"), "intermediate_size": value}
    with pytest.raises(ConfigError, match=r"intermediate_size = "):
        parse_architecture(config)


def test_an_unknown_type_names_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*mixtral"):
        parse_architecture({"model_type": "mixtrall"})
    with pytest.raises(ConfigError) as caught:
        parse_architecture({"hidden_size": 1})
    assert caught.value.problems[0].cause == "unsupported_architecture"


def test_heads_that_do_not_divide_are_refused() -> None:
    config = {**config_of("meta-llama/Llama-3.1-8B-Instruct"), "num_key_value_heads": 7}
    assert _problem_keys(config) == {"model.config.num_key_value_heads"}


def test_a_list_with_one_entry_for_each_layer_is_checked() -> None:
    config = config_of("Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert "model.config.layer_types" in _problem_keys({**config, "layer_types": ["full_attention"]})


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(models())), st.data())
def test_damaged_configs_give_config_errors_only(name: str, data: st.DataObject) -> None:
    """Any field of any model may be anything: the answer is an architecture or a ConfigError."""
    config = dict(config_of(name))
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[key] = data.draw(VALUES)
    if isinstance(config.get("text_config"), dict) and config["text_config"]:
        text = dict(config["text_config"])
        text[data.draw(st.sampled_from(sorted(text)))] = data.draw(VALUES)
        config["text_config"] = text
    try:
        plan_of(config)
    except ConfigError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
