"""What a failed start teaches the next plan. Nothing is guessed: a lesson is a number that the engine printed.

No lesson means that another start would fail the same way. A pinned value is never unlearned: then the run fails with
its cause, and the remedy is the user's to take.
"""

from __future__ import annotations

import math

from nexus_orch.judge.measured import Measured
from nexus_orch.types import GIB, Failed, Lesson, Plan


def learn(failed: Failed, measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """The lessons of one failed start under this plan; empty when nothing can be learned."""
    match failed.cause:
        case "port_in_use" if _is_open(plan, "serve.port"):
            port = plan.settings.get("serve.port")
            return (Lesson("machine.taken_port", port, f"port {port} was taken before the engine listened on it"),)
        case "context_too_long" if _is_open(plan, "model.max_model_len"):
            return _shorter_context(measured, plan)
        case "memory_busy" if _is_open(plan, "memory.gpu_memory_utilization"):
            return _lower_utilization(measured, plan)
    return ()


def _is_open(plan: Plan, key: str) -> bool:
    return plan.spec.get(key) is None


def _shorter_context(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """vLLM tells the longest context that would have fitted."""
    possible = measured.max_model_len_possible
    if possible is None or possible <= 0 or possible >= plan.max_model_len:
        return ()
    return (Lesson("model.max_model_len", possible, f"the engine measured room for {possible:,} tokens of context"),)


def _lower_utilization(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """The share that is free on the fullest card, rounded down to whole percents."""
    free, total = measured.of_ranks("memory_free_bytes"), measured.of_ranks("memory_total_bytes")
    shares = [have / whole for have, whole in zip(free, total, strict=False) if whole]
    if not shares:
        return ()
    utilization = math.floor(min(shares) * 100) / 100
    if not 0 < utilization < float(plan.settings.get("memory.gpu_memory_utilization") or 1.0):
        return ()
    least = min(free) / GIB
    return (Lesson("memory.gpu_memory_utilization", utilization, f"the engine found only {least:.2f} GiB free"),)
