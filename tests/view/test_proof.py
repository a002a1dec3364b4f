"""Plan and measurement side by side, and advice, in every view."""

from __future__ import annotations

import io
import json

from rich.console import Console

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.types import GIB
from nexus_orch.view.jsonl import JsonLinesView
from nexus_orch.view.live import LiveView
from nexus_orch.view.plain import PlainView
from nexus_orch.view.proof import render_proof
from tests.view.histories import replay_to_ready

PROOF = (
    Comparison("weights in host RAM", 10 * GIB, 10.5 * GIB, "bytes"),
    Comparison("activations", GIB, None, "bytes"),
    Comparison("CUDA graphs", None, 3 * GIB, "bytes"),
    Comparison("KV cache", 10_288, 10_080, "tokens"),
    Comparison("one request", 6.2, 8.6, "tokens/s"),
)
ADVICE = Advice("preemptions", "17 preemptions a minute", "memory.kv_cache.dtype=fp8", "would hold 24 requests")


def test_the_table_has_what_was_planned_and_measured() -> None:
    assert render_proof(PROOF) == [
        "                           planned       measured   error",
        "weights in host RAM       10.0 GiB       10.5 GiB   +5.0%",
        "KV cache             10,288 tokens  10,080 tokens   -2.0%",
        "one request           6.2 tokens/s   8.6 tokens/s  +38.7%",
    ]


def test_nothing_to_compare_is_no_table() -> None:
    assert render_proof(PROOF[1:3]) == []


def test_plain_lines() -> None:
    stream = io.StringIO()
    view = PlainView(stream)
    view.proof(PROOF)
    view.proof(PROOF[1:3])
    view.advice(ADVICE)
    told = stream.getvalue()
    assert told.count("plan and measurement:") == 1
    assert "10,288 tokens  10,080 tokens   -2.0%" in told
    assert "advice: 17 preemptions a minute; memory.kv_cache.dtype=fp8 would hold 24 requests" in told


def test_json_lines() -> None:
    stream = io.StringIO()
    view = JsonLinesView(stream)
    view.proof(PROOF)
    view.advice(ADVICE)
    proof, advice = (json.loads(line) for line in stream.getvalue().splitlines())
    assert proof["kind"] == "proof" and len(proof["comparisons"]) == len(PROOF)
    assert proof["comparisons"][1] == {
        "name": "activations",
        "planned": GIB,
        "measured": None,
        "unit": "bytes",
        "error": None,
    }
    assert (advice["kind"], advice["advice"]["kind"], advice["text"]) == ("advice", "preemptions", ADVICE.text)


def test_the_live_view_shows_the_table_while_it_serves_and_keeps_it() -> None:
    stream = io.StringIO()
    view = LiveView(stream, console=Console(file=stream, force_terminal=True, width=100, height=50))
    replay_to_ready(view)
    view.proof(PROOF)
    view.advice(ADVICE)
    during = stream.getvalue()
    view.close()
    kept = stream.getvalue()[len(during) :]
    for text in (during, kept):
        assert "10,288 tokens  10,080 tokens" in text
        assert "memory.kv_cache.dtype=fp8" in text
    assert "plan and measurement" in during
