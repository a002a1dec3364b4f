"""The view of a launch inside a sweep: only what nexus_orch itself has to say."""

from __future__ import annotations

import sys
from typing import TextIO

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.streams import silence_output
from nexus_orch.types import Command, Observation, Plan, Probed, Verdict

INDENT = "      "


class SweepVoice:
    """One line for each thing that happens, to a reader who may have gone away."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def say(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            silence_output()


class SweepView:
    """A `RunView` that shows messages only; the whole log is in the run's folder."""

    def __init__(self, voice: SweepVoice) -> None:
        self._voice = voice

    def message(self, text: str) -> None:
        self._voice.say(INDENT + text)

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        return

    def observe(self, observation: Observation) -> None:
        return

    def verdict(self, verdict: Verdict) -> None:
        return

    def answer(self, question: str, answer: Probed) -> None:
        return

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        return

    def advice(self, advice: Advice) -> None:
        return

    def close(self) -> None:
        return
