"""Names, and what becomes of null, lists and environment variables."""

from __future__ import annotations

import pytest

from nexus_orch.compose.spec import make_spec
from nexus_orch.types import RunSpec

CHOICES = {"model": "qwen32b", "memory": "hybrid", "hardware": "rtx4090x2", "profile": None}


def test_nothing_but_nulls_makes_the_defaults_of_the_records() -> None:
    values = {"name": None, "memory": {"strategy": None, "kv_cache": {"dtype": None}}, "serve": {"extra_args": None}}
    spec = make_spec(values, {}, {})
    assert spec == RunSpec("run")


@pytest.mark.parametrize(
    ("choices", "path", "name"),
    [
        (CHOICES, None, "qwen32b-hybrid-rtx4090x2"),
        ({**CHOICES, "model": "local"}, "/models/My Model/", "My-Model-hybrid-rtx4090x2"),
        ({**CHOICES, "model": "local"}, r"C:\models\tiny", "tiny-hybrid-rtx4090x2"),
        ({**CHOICES, "model": "local"}, None, "local-hybrid-rtx4090x2"),
        ({**CHOICES, "memory": "team/fast"}, None, "qwen32b-team-fast-rtx4090x2"),
        ({"model": "qwen32b"}, None, "qwen32b"),
    ],
)
def test_the_name_of_a_run_is_made_of_the_choices(choices: dict[str, str], path: str | None, name: str) -> None:
    assert make_spec({"model": {"path": path}}, choices, {}).name == name


def test_a_given_name_stands() -> None:
    assert make_spec({"name": "night"}, CHOICES, {}).name == "night"


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"name": "mine", "path": "Qwen/Qwen2.5-32B"}, "mine"),
        ({"path": "Qwen/Qwen2.5-32B"}, "Qwen2.5-32B"),
        ({"path": "/models/tiny/"}, "tiny"),
        ({}, "qwen32b"),
    ],
)
def test_the_name_of_a_model(section: dict[str, str], name: str) -> None:
    assert make_spec({"model": section}, CHOICES, {}).model.name == name


def test_the_name_of_the_hardware_is_that_of_its_profile() -> None:
    assert make_spec({}, CHOICES, {}).hardware.name == "rtx4090x2"
    assert make_spec({"hardware": {"name": "lab"}}, CHOICES, {}).hardware.name == "lab"


def test_environment_variables_are_text_and_null_takes_one_away() -> None:
    spec = make_spec({"engine": {"env": {"A": 4, "B": None, "C": "x"}}}, {}, {})
    assert spec.engine.env == {"A": "4", "C": "x"}


def test_arguments_keep_their_order() -> None:
    assert make_spec({"serve": {"extra_args": ["--seed", "7"]}}, {}, {}).serve.extra_args == ("--seed", "7")
