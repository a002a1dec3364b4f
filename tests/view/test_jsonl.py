from __future__ import annotations

import io
import json
from math import nan
from typing import Any

from nexus_orch.types import Metric, Observation, Probed, Starting, StopAsked
from nexus_orch.view.jsonl import JsonLinesView
from tests.record.examples import START
from tests.view.histories import FIRST_ATTEMPT, replay, replay_all


def _lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_every_line_is_an_object_with_a_known_kind() -> None:
    out = io.StringIO()
    replay_all(JsonLinesView(out))
    assert {line["kind"] for line in _lines(out)} == {
        "plan",
        "started",
        "log_line",
        "metric",
        "gpu_sample",
        "host_sample",
        "probed",
        "exited",
        "verdict",
        "message",
        "answer",
    }
    assert "hf_do_not_tell" not in out.getvalue()


def test_the_lines_of_a_failed_attempt() -> None:
    out = io.StringIO()
    replay(JsonLinesView(out), FIRST_ATTEMPT)
    lines = _lines(out)
    assert lines[0] == {"kind": "started", "time": START, "attempt": 1, "pid": 4050, "argv": ["vllm"]}
    assert lines[-2] == {
        "kind": "verdict",
        "time": START + 8,
        "verdict": {
            "kind": "failed",
            "cause": "weights_oom",
            "evidence": ["torch.OutOfMemoryError: CUDA out of memory."],
            "remedy": "offload more of the weights",
        },
    }
    assert lines[-1] == {"kind": "exited", "time": START + 9, "attempt": 1, "returncode": 1}


def test_a_verdict_is_told_when_it_changes() -> None:
    out = io.StringIO()
    view = JsonLinesView(out)
    for verdict in (Starting(), Starting(), Starting(progress=0.5)):
        view.verdict(verdict)
    assert [line["verdict"]["progress"] for line in _lines(out)] == [None, 0.5]


def test_every_kind_of_observation_has_its_line() -> None:
    out = io.StringIO()
    view = JsonLinesView(out)
    observations: tuple[Observation, ...] = (
        Metric(1.0, 1, {"running": nan}),
        Probed(2.0, 1, "health", True),
        StopAsked(3.0, 1, "nexus stop"),
    )
    for observation in observations:
        view.observe(observation)
    first, second, third = _lines(out)
    assert first["values"] == {"running": "nan"}
    assert (second["kind"], second["probed_kind"]) == ("probed", "health")
    assert third == {"kind": "stop_asked", "time": 3.0, "attempt": 1, "reason": "nexus stop"}
