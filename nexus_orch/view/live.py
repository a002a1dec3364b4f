"""The live view in a terminal: the whole screen, drawn again a few times a second, given back as it was at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.types import Command, Failed, Observation, Plan, Probed, Ready, Stage, Stopped, Verdict
from nexus_orch.view.detached import DetachedStream
from nexus_orch.view.frame import make_frame
from nexus_orch.view.meters import ASCII, UNICODE
from nexus_orch.view.picture import Picture
from nexus_orch.view.plan import render_plan
from nexus_orch.view.proof import render_proof
from nexus_orch.view.request import render_request
from nexus_orch.view.stream import QuietStream
from nexus_orch.view.words import render_duration, render_rate

STARTING_SECONDS = 0.2
SERVING_SECONDS = 1.0
"""The least time between two frames. While it serves little changes, and the view must cost next to nothing."""


class LiveView:
    """Draws when something was observed and the last frame is old enough; there is no thread.

    The screen is a second one, as in `less`: what the terminal showed before is there again afterwards, followed by
    what is worth keeping (messages, the answer, the end). `clock` counts seconds for the frame rate only.
    """

    def __init__(
        self,
        stream: TextIO | DetachedStream,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = QuietStream(stream)
        self._console = console or Console(file=cast("TextIO", self._stream), force_terminal=True, highlight=False)
        self._glyphs = ASCII if self._console.options.ascii_only else UNICODE
        self._clock = clock
        self._picture = Picture()
        self._live: Live | None = None
        self._drawn = float("-inf")
        self._kept: list[Text] = []

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        is_first = not self._picture.record.attempts
        changes = self._picture.plan(plan, run_id, url)
        if is_first:
            argv, env = ((), {}) if command is None else (command.argv, command.shown_env)
            shown = render_plan(plan, argv, env, self._console.width, ascii_only=self._glyphs is ASCII)
            self._console.print(shown, crop=False)  # a cut option could not be copied
        for change in changes:
            self.message(f"attempt {self._picture.attempt.number}: {change}")
        self._draw(urgent=True)

    def observe(self, observation: Observation) -> None:
        self._picture.observe(observation)
        self._draw()

    def verdict(self, verdict: Verdict) -> None:
        before, stage = self._picture.verdict, self._picture.attempt.stage
        self._picture.judge(verdict)
        if type(verdict) is not type(before):
            self._keep_verdict(verdict)
        self._draw(urgent=type(verdict) is not type(before) or self._picture.attempt.stage != stage)

    def message(self, text: str) -> None:
        self._picture.messages.extend(text.splitlines())
        self._kept.append(Text(text))
        self._draw(urgent=True)

    def answer(self, question: str, answer: Probed) -> None:
        rate = answer.values.get("tokens_per_second")
        self._kept.append(Text(question, style="dim"))
        self._kept.append(Text(answer.detail.strip(), style="bold" if answer.ok else "red"))
        if rate is not None:
            self._kept.append(Text(f"{render_rate(rate)} tokens/s", style="dim"))
        self._draw(urgent=True)

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        lines = render_proof(comparisons)
        self._picture.prove(comparisons)
        self._kept.extend(Text(line, style="dim") for line in lines)
        self._draw(urgent=True)

    def advice(self, advice: Advice) -> None:
        self.message(f"advice: {advice.text}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        for text in self._kept:
            self._console.print(text, soft_wrap=True)
        self._kept.clear()
        self._stream.end()

    def _keep_verdict(self, verdict: Verdict) -> None:
        picture = self._picture
        match verdict:
            case Ready():
                spans = picture.stage_seconds.items()
                took = ", ".join(f"{s.value} {render_duration(seconds)}" for s, seconds in spans if s != Stage.READY)
                self._kept.append(Text(f"ready: {picture.url}  ({took})", style="green"))
                self._kept.append(Text(f"ask it: {render_request(picture.url, picture.attempt.settings)}"))
            case Failed(cause=cause, evidence=evidence):
                first = f": {evidence[0]}" if evidence else ""
                self._kept.append(Text(f"attempt {picture.attempt.number} failed, {cause}{first}", style="red"))
            case Stopped(reason=reason):
                self._kept.append(Text(f"stopped: {reason}"))

    def _draw(self, *, urgent: bool = False) -> None:
        now = self._clock()
        pause = SERVING_SECONDS if self._picture.is_serving else STARTING_SECONDS
        if self._stream.is_gone or (not urgent and now - self._drawn < pause):
            return
        self._drawn = now
        size = self._console.size
        frame = Group(*make_frame(self._picture, size.width, size.height, self._glyphs))
        if self._live is None:
            self._live = Live(
                frame,
                console=self._console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)
        else:
            self._live.update(frame, refresh=True)
