"""An engine that hangs while it serves: requests run, and no token comes. `/health` says nothing of it: vLLM answers
200 as long as its API server lives, however long its engine core has stood still.

Judged by progress and never by a deadline of a request: silence for longer than the slowest step that the plan
predicts makes it a suspect, and one token that is asked for and does not come confirms it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_orch.judge.log.conclusion import show_lines
from nexus_orch.types import Failed, Plan

if TYPE_CHECKING:
    from nexus_orch.judge.start.verdict import RunState

LEAST_SECONDS = 60.0
UNKNOWN_SECONDS = 300.0
"""Where the plan predicts no speed. vLLM's own limit for one step of its executor is 300 s from 0.10 on
(VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS in envs.py)."""
SLOWER = 5.0
"""How much slower than predicted a step may be before its silence counts; predictions of prompts are within 2."""
REMEDY = (
    "nothing of the configuration is known to be wrong: look into the process states that were written down, and into "
    "the log of the driver (dmesg) for a card that stands still"
)


def find_silence(plan: Plan) -> float:
    """How long, in seconds, a busy server under this plan may give no token: five times its slowest step, the largest
    batch of prompt tokens; a minute at least."""
    first, workload = plan.prediction.time_to_first_token_seconds, plan.spec.workload
    if first is None:
        return UNKNOWN_SECONDS
    batch = float(plan.settings.get("serve.max_num_batched_tokens") or plan.max_model_len or workload.input_tokens)
    return max(LEAST_SECONDS, SLOWER * first * max(1.0, batch / max(1, workload.input_tokens)))


def is_suspect(state: RunState) -> bool:
    """Whether a server that was ready is busy and has given no token for too long."""
    if state.moved is None or not state.is_busy or state.stop is not None:
        return False
    return state.time - state.moved >= state.expected.silence_seconds


def judge_hang(state: RunState) -> Failed | None:
    """Failed when a suspect did not give the one token that it was asked for either."""
    failing = state.failing_completion
    if not is_suspect(state) or failing is None or state.moved is None or failing.since <= state.moved:
        return None
    running = 0 if state.metric is None else int(state.metric.values.get("running", 0))
    asked = f"{running} request was" if running == 1 else f"{running} requests were"
    told = (
        f"no token for {state.time - state.moved:.0f} s while {asked} running, "
        f"and one token that was asked for did not come: {failing.detail}"
    )
    return Failed("engine_dead", (told, *show_lines(state.reading)), REMEDY)
