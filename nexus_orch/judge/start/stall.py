"""A start that moves no more: nothing has happened for too long, or the server says it is up and does not answer."""

from __future__ import annotations

from dataclasses import replace

from nexus_orch.judge.log.conclusion import show_lines
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.start.verdict import Failing, RunState
from nexus_orch.types import Cause, Failed, Starting

DEAF_AFTER_SECONDS = 30.0
"""How long a server that says it is up may not answer. vLLM 0.32.0 says so and hangs when its port was taken late."""


def _is_stalled(state: RunState, now: float, limit_seconds: float) -> bool:
    """True when a start that is not over has shown no progress for longer than the limit."""
    is_starting = isinstance(state.verdict, Starting) and state.attempt > 0 and state.stop is None
    limit = min(limit_seconds, DEAF_AFTER_SECONDS) if _is_deaf(state) else limit_seconds
    return is_starting and now - state.progress.time > limit


def judge_stall(state: RunState, now: float, limit_seconds: float) -> RunState | None:
    """The state with the failure `startup_stalled`, when the start has stalled; else None.

    A server that says it is up while another process has its port fails as `port_in_use`.
    """
    if not _is_stalled(state, now, limit_seconds):
        return None
    if _is_deaf(state) and state.failing_health is not None:
        return replace(state, time=now, verdict=_make_deaf(state.failing_health))
    starting = state.reading.starting
    silence = f"no progress for {now - state.progress.time:.0f} s while {starting.detail or starting.stage}"
    remedy = shipped_patterns().remedy("startup_stalled")
    return replace(state, time=now, verdict=Failed("startup_stalled", (silence, *show_lines(state.reading)), remedy))


def _is_deaf(state: RunState) -> bool:
    """True when the server has said that it listens, and nothing of it answers."""
    return state.reading.is_up and not state.is_healthy and not state.was_ready


def _make_deaf(failing: Failing) -> Failed:
    cause: Cause = "port_in_use" if failing.is_foreign else "startup_stalled"
    told = f"the server said that it is up, and its port does not answer: {failing.detail}"
    return Failed(cause, (told,), shipped_patterns().remedy(cause))
