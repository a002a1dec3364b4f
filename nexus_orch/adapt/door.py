"""Whether the front door can do with this engine what the run asks of it. Pure."""

from __future__ import annotations

from nexus_orch.errors import Problem
from nexus_orch.releases.requests import returns_token_ids
from nexus_orch.types import EngineFacts, RunSpec

KEY = "serve.continue_streams"


def check_door(spec: RunSpec, engine: EngineFacts) -> tuple[Problem, ...]:
    """Why streams cannot go on after a restart, though they are to."""
    if not spec.serve.continue_streams:
        return ()
    if not spec.serve.front_door:
        remedy = "serve.front_door=true, or leave it out"
        return (Problem("streams go on only behind the front door", KEY, True, spec.origin(KEY), remedy),)
    if not returns_token_ids(engine.version):
        message = f"vLLM {engine.version} does not tell the ids of a stream's tokens"
        remedy = f"leave it out, or use vLLM {returns_token_ids.span}"
        return (Problem(message, KEY, True, spec.origin(KEY), remedy),)
    return ()
