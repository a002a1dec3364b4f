from __future__ import annotations

import json
from math import inf, isnan, nan
from pathlib import PurePosixPath
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.record.codec import CodecError, decode, decode_tagged, encode, encode_tagged, kind_of
from nexus_orch.record.events import ENTRY_TYPES, Adjusting, Advised, AttemptEnded, Judged, Planned
from nexus_orch.record.run_folder import decode_plan, encode_plan
from nexus_orch.types import (
    Exited,
    Failed,
    Lesson,
    LogLine,
    Metric,
    Observation,
    Plan,
    Probed,
    Ready,
    Stage,
    Starting,
)
from tests.record.examples import SPEC, make_plan

OBSERVATIONS: tuple[type[Any], ...] = get_args(Observation)
ANY_JSON = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers()))
LESSONS = st.builds(Lesson, key=st.text(), value=ANY_JSON, source=st.text())
FREE_FIELDS: dict[type[Any], dict[str, st.SearchStrategy[Any]]] = {
    Planned: {"plan": st.dictionaries(st.text(), ANY_JSON)},
    AttemptEnded: {"lessons": st.lists(LESSONS).map(tuple)},
    Advised: {"advice": st.builds(Advice, lesson=st.none() | LESSONS)},
    Adjusting: {"lesson": LESSONS},
}


@pytest.mark.parametrize("record_type", dict.fromkeys([*OBSERVATIONS, *ENTRY_TYPES]))
def test_every_record_comes_back_from_json_as_it_was(record_type: type[Any]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.builds(record_type, **FREE_FIELDS.get(record_type, {})))
    def round_trip(record: object) -> None:
        encoded = encode_tagged(record)
        text = json.dumps(encoded, allow_nan=False)
        decoded = decode_tagged([*OBSERVATIONS, *ENTRY_TYPES], json.loads(text))
        assert encode_tagged(decoded) == encoded
        assert decoded == record or '"nan"' in text  # NaN does not equal itself

    round_trip()


def test_a_plan_comes_back_as_it_was() -> None:
    plan = make_plan()
    assert decode_plan(json.loads(json.dumps(encode_plan(plan))), SPEC) == plan


def test_numbers_that_json_lacks() -> None:
    text = json.dumps(encode(Metric(inf, 1, {"a": nan, "b": -inf})), allow_nan=False)
    metric = decode(Metric, json.loads(text))
    assert metric.time == inf
    assert isnan(metric.values["a"])
    assert metric.values["b"] == -inf


def test_a_kind_of_its_own_does_not_hide_the_records_kind() -> None:
    encoded = encode_tagged(Probed(1.0, 1, "health", True))
    assert encoded["kind"] == "probed"
    assert encoded["probed_kind"] == "health"


def test_a_verdict_says_which_one_it_is() -> None:
    encoded = encode(Judged(1.0, 1, Starting(Stage.LOADING, 0.5)))
    assert encoded["verdict"] == {"kind": "starting", "stage": "loading", "progress": 0.5, "detail": ""}


def test_kinds_are_stable_names() -> None:
    assert [kind_of(kind) for kind in ENTRY_TYPES] == [
        "created",
        "planned",
        "reserved",
        "preloaded",
        "launched",
        "family",
        "judged",
        "proved",
        "advised",
        "blinded",
        "adjusting",
        "attempt_ended",
        "continued",
        "stopping",
        "finished",
        "probed",
        "vanished",
        "exited",
        "metric",
        "gpu_sample",
        "host_sample",
    ]


@pytest.mark.parametrize(
    ("record_type", "data", "message"),
    [
        (Exited, {"time": 1.0, "attempt": 1}, "Exited has no returncode"),
        (Exited, {"time": "soon", "attempt": 1, "returncode": 0}, "expected float, not 'soon'"),
        (Exited, {"time": 1.0, "attempt": True, "returncode": 0}, "expected int, not True"),
        (Exited, [1.0, 1, 0], "expected Exited, not [1.0, 1, 0]"),
        (Failed, {"cause": "bad luck", "evidence": [], "remedy": ""}, "not 'bad luck'"),
        (Starting, {"stage": "resting"}, "expected Stage, not 'resting'"),
        (Starting, {"progress": "much"}, "not 'much'"),
        (Ready, {"measured": [1]}, "not [1]"),
        (Judged, {"time": 1.0, "attempt": 1, "verdict": {"kind": "confused"}}, "unknown kind 'confused'"),
        (Judged, {"time": 1.0, "attempt": 1, "verdict": "ready"}, "expected an object, not str"),
    ],
)
def test_other_data_is_refused(record_type: type[Any], data: object, message: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(record_type, data)
    assert message in str(caught.value)


def test_newer_and_older_releases_read_each_other() -> None:
    assert decode(Exited, {"time": 1, "attempt": 1, "returncode": 0, "signal_name": "TERM"}) == Exited(1.0, 1, 0)
    assert decode(Starting, {}) == Starting()


def test_a_value_without_a_json_form_becomes_its_text() -> None:
    assert encode({"x": PurePosixPath("/models/a"), "y": ("a", 1)}) == {"x": "/models/a", "y": ["a", 1]}


def test_bytes_that_are_no_text_survive() -> None:
    line = LogLine(1.0, 1, "caf\udce9 \u2028 \U0001f600")
    assert decode(LogLine, json.loads(json.dumps(encode(line)).encode("ascii"))) == line


def test_plans_are_decoded_with_their_types() -> None:
    plan = decode(Plan, encode(make_plan()))
    assert plan == make_plan()
    assert plan.spec.model == SPEC.model
