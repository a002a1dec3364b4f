"""What a plan must provide at least: one context, and the workload's requests at once."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.plan.asked.inputs import Inputs

LEAST_CONTEXT = 4096
"""The context that a plan provides at least when none is asked for (less where the model has less)."""


@dataclass(frozen=True)
class Target:
    """Tokens and requests that the cache should hold: one request of `context` tokens (the engine refuses to start with
    less), and `requests` of `request_tokens` at once."""

    context: int
    requests: int
    request_tokens: int


def make_target(inputs: Inputs, longest: int | None = None) -> Target:
    """The context and concurrency to provide. A pinned context is taken as it is."""
    workload = inputs.spec.workload
    request = workload.input_tokens + workload.output_tokens
    limit = inputs.architecture.longest_context
    context = inputs.spec.model.max_model_len
    if context is None:
        context = min(limit, max(request, LEAST_CONTEXT))
    requests = -(-workload.concurrency // inputs.engines)  # engines side by side share them
    return Target(context, max(1, requests), max(1, min(request, context, longest or context)))
