"""Values against the schema: each message tells key, value, origin and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.compose.planned import PLANNED_ONLY
from nexus_orch.compose.schema import known_keys, types_of
from nexus_orch.compose.values import judge_values, make_unknown_key, settle
from nexus_orch.errors import Problem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _nested(key: str, value: object) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _judge(key: str, value: object) -> list[Problem]:
    return judge_values(_nested(key, value), {key: "here:1"})


@pytest.mark.parametrize(
    ("key", "value", "message", "remedy"),
    [
        (
            "serve.port",
            70000,
            "serve.port must be a whole number from 1 to 65535, or auto",
            "write serve.port=auto if in doubt. Port to listen on. auto takes 8000, or the next free one.",
        ),
        (
            "memory.gpu_memory_utilization",
            0,
            "memory.gpu_memory_utilization must be a number above 0 and at most 1, or auto",
            "write memory.gpu_memory_utilization=auto if in doubt. Share of each card's memory that the engine may "
            "use: above 0, at most 1.",
        ),
        (
            "memory.cpu_offload_gib",
            -3.5,
            "memory.cpu_offload_gib must be a number from 0 to 65536, or auto",
            "write memory.cpu_offload_gib=auto if in doubt. Weights kept in host RAM, in GiB for each GPU (as vLLM "
            "counts them).",
        ),
        (
            "model.max_model_len",
            "4096",
            "model.max_model_len must be a whole number from 1 to 100000000, or auto, not text",
            "write a plain number; ${oc.decode:${oc.env:NAME}} makes one of an environment variable",
        ),
        (
            "model.max_model_len",
            True,
            "model.max_model_len must be a whole number from 1 to 100000000, or auto, not true or false",
            "write model.max_model_len=auto if in doubt. Longest context (prompt and answer), in tokens. auto takes "
            "the longest that fits, up to the model's own limit.",
        ),
        (
            "engine.version",
            0.32,
            "engine.version must be text, or auto, not a number",
            "put it into quotes: engine.version=\"'0.32'\"",
        ),
        (
            "engine.env.VERBOSE",
            True,
            "engine.env.VERBOSE must be text or a number, or null, not true or false",
            "put it into quotes: engine.env.VERBOSE=\"'true'\"",
        ),
        (
            "memory.offload_backend",
            "uvaa",
            "memory.offload_backend must be one of uva, prefetch, or auto",
            "did you mean uva?",
        ),
        (
            "workload.objective",
            None,
            "workload.objective must be one of throughput, latency, context",
            "choose such a value. What free memory is spent on.",
        ),
        (
            "memory.kv_cache",
            "fp8",
            "memory.kv_cache must be a mapping, not text",
            "set its parts: memory.kv_cache.NAME=VALUE. The KV cache.",
        ),
        (
            "serve.extra_args",
            "--seed 7",
            "serve.extra_args must be a list of text, or null, not text",
            "write a list, with each number in quotes: serve.extra_args=['--flag','1']",
        ),
        (
            "limits.stop_seconds",
            float("nan"),
            "limits.stop_seconds must be a number from 0.1 to 3600",
            "choose such a value. How long each rung of the stop ladder waits, in seconds.",
        ),
    ],
)
def test_a_bad_value(key: str, value: object, message: str, remedy: str) -> None:
    (problem,) = _judge(key, value)
    assert (problem.key, problem.origin) == (key, "here:1")
    assert repr(problem.value) in (repr(value), "'***'")
    assert problem.message == message
    assert problem.remedy == remedy


def test_a_number_in_a_list_of_text_is_told_once_for_the_whole_list() -> None:
    (problem,) = _judge("serve.extra_args", [1, 2, "--x"])
    assert (problem.key, problem.value) == ("serve.extra_args", "[1,2,'--x']")


def test_infinity_is_out_of_every_range() -> None:
    assert len(_judge("memory.cpu_offload_gib", float("inf"))) == 1


def test_long_values_are_cut() -> None:
    (problem,) = _judge("hardware.nodes", "x" * 500)
    assert problem.value == "x" * 77 + "..."


@pytest.mark.parametrize(("key", "value"), [("serve.api_key_env", "sk-secret"), ("engine.env.TOKEN", ["sk-secret"])])
def test_what_may_be_a_secret_is_not_shown(key: str, value: object) -> None:
    (problem,) = _judge(key, value)
    assert problem.value == "***"
    assert "sk-secret" not in f"{problem.message} {problem.remedy}"


def test_the_name_of_an_environment_variable_is_checked() -> None:
    (problem,) = judge_values({"engine": {"env": {"1A": "x"}}}, {"engine.env": "lab.yaml:2"})
    assert problem.message == "'1A' is no name of an environment variable"
    assert (problem.key, problem.origin) == ("engine.env", "lab.yaml:2")


def test_unknown_keys_are_told_each_with_its_nearest() -> None:
    values = {"serve": {"prot": 1, "hosts": "x"}, "limit": 3, "memory": {"defaults": []}}
    problems = {problem.key: problem for problem in judge_values(values, {"serve.prot": "lab.yaml:4"})}
    assert set(problems) == {"serve.prot", "serve.hosts", "limit", "memory.defaults"}
    assert problems["serve.prot"].message == "unknown key serve.prot"
    assert problems["serve.prot"].origin == "lab.yaml:4"
    assert problems["serve.prot"].remedy == "did you mean serve.port?"
    assert problems["limit"].remedy == "did you mean limits?"


def test_auto_and_null_are_welcome_where_the_planner_decides() -> None:
    for key, schema in known_keys().items():
        if "anyOf" in schema:
            assert _judge(key, "auto") == _judge(key, None) == [], key


@pytest.mark.slow
@given(key=st.sampled_from(sorted(known_keys())), value=JSON)
def test_any_value_is_either_good_or_told_with_a_remedy(key: str, value: object) -> None:
    values = _nested(key, value)
    problems = judge_values(values, {})
    assert all(problem.key and problem.message and problem.remedy for problem in problems)
    if not problems:
        settle(values)


def test_settled_values() -> None:
    settled = settle(
        {
            "model": {"max_model_len": 2.0, "path": "auto", "config": {"dtype": "auto"}},
            "memory": {"strategy": "auto", "cpu_offload_gib": 4.0, "kv_cache": {"block_size": "auto"}},
        }
    )
    assert settled["model"] == {"max_model_len": 2, "path": "auto", "config": {"dtype": "auto"}}
    assert isinstance(settled["model"]["max_model_len"], int)
    assert settled["memory"] == {"strategy": None, "cpu_offload_gib": 4.0, "kv_cache": {"block_size": None}}


def test_the_list_of_a_remedy_is_one_that_is_taken() -> None:
    for key, schema in known_keys().items():
        if "array" in types_of(schema) and "anyOf" in schema:
            (problem,) = _judge(key, [])
            assert problem.message.endswith(", or auto, not an empty one")
            assert str(problem.remedy).endswith(f"or {key}=auto")
            listed = re.search(rf"{re.escape(key)}=(\[[^]]*])", str(problem.remedy))
            assert listed is not None, key
            assert _judge(key, yaml.safe_load(listed[1])) == [], key


@pytest.mark.parametrize("key", PLANNED_ONLY)
def test_what_only_the_planner_makes_says_what_to_set_instead(key: str) -> None:
    problem = make_unknown_key(key, 4, "command line")
    assert problem.message == f"{key} is the planner's own and cannot be set"
    assert "did you mean" not in str(problem.remedy)
    named = re.findall(r"\b(?:memory|serve|hardware)(?:\.\w+)+", str(problem.remedy))
    assert set(named) <= set(known_keys())


def test_what_only_the_planner_makes_is_told_of_a_file_too() -> None:
    (problem,) = judge_values({"memory": {"prefetch": {"group_size": 4}}}, {"memory.prefetch": "lab.yaml:2"})
    assert (problem.key, problem.origin) == ("memory.prefetch", "lab.yaml:2")
    assert "planner's own" in problem.message


def test_every_setting_of_the_engine_can_be_set_or_is_known_as_the_planners_own() -> None:
    shown = {key for key in SETTINGS if not key.startswith("plugin.")} | {"memory.load_strategy"}
    assert shown - set(known_keys()) <= set(PLANNED_ONLY)
