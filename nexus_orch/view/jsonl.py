"""JSON lines for machines: every observation and verdict as one object with its `kind`."""

from __future__ import annotations

import json
from typing import Any, TextIO

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.record.codec import encode, encode_tagged
from nexus_orch.record.run_folder import encode_plan
from nexus_orch.types import Command, Observation, Plan, Probed, Verdict
from nexus_orch.view.detached import DetachedStream
from nexus_orch.view.stream import QuietStream


class JsonLinesView:
    """Kinds: plan, verdict, message, answer, proof, advice, gap (lines that nobody read in time), and those of the
    observations (started, log_line, metric, gpu_sample, host_sample, probed, exited). `time` is that of the newest
    observation where a line has none of its own.
    """

    def __init__(self, stream: TextIO | DetachedStream) -> None:
        self._stream = QuietStream(stream)
        self._time = 0.0
        self._verdict: Verdict | None = None

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        shown = {} if command is None else {"argv": list(command.argv), "env": command.shown_env}
        self._write({"kind": "plan", "run_id": run_id, "url": url, "plan": encode_plan(plan), **shown})

    def observe(self, observation: Observation) -> None:
        self._time = observation.time
        self._write(encode_tagged(observation))

    def verdict(self, verdict: Verdict) -> None:
        if verdict != self._verdict:
            self._verdict = verdict
            self._write({"kind": "verdict", "time": self._time, "verdict": encode_tagged(verdict)})

    def message(self, text: str) -> None:
        self._write({"kind": "message", "time": self._time, "text": text})

    def answer(self, question: str, answer: Probed) -> None:
        known = {"time": answer.time, "ok": answer.ok, "values": encode(answer.values)}
        self._write({"kind": "answer", "question": question, "text": answer.detail, **known})

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        lines = [{**encode(line), "error": line.difference} for line in comparisons]
        self._write({"kind": "proof", "time": self._time, "comparisons": lines})

    def advice(self, advice: Advice) -> None:
        self._write({"kind": "advice", "time": self._time, "text": advice.text, "advice": encode(advice)})

    def close(self) -> None:
        self._stream.end()

    def _write(self, data: dict[str, Any]) -> None:
        self._stream.write_line(json.dumps(data))


def render_json_gap(left_out: int) -> str:
    """What stands for lines that nobody read in time."""
    return json.dumps({"kind": "gap", "lines": left_out}) + "\n"
