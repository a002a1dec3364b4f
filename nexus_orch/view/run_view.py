"""What every view of a run can do, and which one a terminal, a pipe or a machine gets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Literal, Protocol, TextIO

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.types import Command, Observation, Plan, Probed, Verdict
from nexus_orch.view.detached import DetachedStream

ViewFormat = Literal["auto", "live", "plain", "json"]


class RunView(Protocol):
    """Shows a run while it is on. For one thread; no method raises because the terminal or the reader went away."""

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        """The plan of the next attempt, told before it is launched. Secrets of the command are not shown."""

    def observe(self, observation: Observation) -> None:
        """Something was seen of the engine."""

    def verdict(self, verdict: Verdict) -> None:
        """What the observations up to now mean."""

    def message(self, text: str) -> None:
        """A sentence of nexus_orch's own for the user."""

    def answer(self, question: str, answer: Probed) -> None:
        """What the server answered to the user's question, after it was observed."""

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        """What was planned beside what was measured, once the server is ready."""

    def advice(self, advice: Advice) -> None:
        """The server has been short of memory, and this would help."""

    def close(self) -> None:
        """The run is over: give the terminal back. Nothing is shown after that."""


def make_view(view_format: ViewFormat, stream: TextIO) -> RunView:
    """The view for this stream; `auto` takes the live one for a terminal that can show it, else plain lines.

    Its methods never wait for the stream's reader, `close` alone does.
    """
    chosen = choose_format(view_format, stream, os.environ)
    if chosen == "json":
        from nexus_orch.view.jsonl import JsonLinesView, render_json_gap  # noqa: PLC0415 - only the chosen view is loaded

        return JsonLinesView(DetachedStream(stream, render_gap=render_json_gap))
    if chosen == "plain":
        from nexus_orch.view.plain import PlainView, render_plain_gap  # noqa: PLC0415

        return PlainView(DetachedStream(stream, render_gap=render_plain_gap))
    from nexus_orch.view.live import LiveView  # noqa: PLC0415 - rich is slow to import

    return LiveView(DetachedStream(stream))


def choose_format(view_format: ViewFormat, stream: TextIO, environ: Mapping[str, str]) -> ViewFormat:
    """live, plain or json: `auto` decided by the stream and by TERM."""
    if view_format != "auto":
        return view_format
    if not stream.isatty() or environ.get("TERM") in ("dumb", "unknown"):
        return "plain"
    return "plain" if _is_old_console(stream) else "live"


def _is_old_console(stream: TextIO) -> bool:
    """A console of Windows before 10 knows no control sequences."""
    if sys.platform != "win32":
        return False
    from rich.console import Console  # noqa: PLC0415

    return Console(file=stream).legacy_windows
