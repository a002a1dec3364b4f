"""Two questions that prove a server: does `/health` answer, and does one real completion bring tokens back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexus_orch.launch.server.server import Server, output_tokens_of, request, text_of
from nexus_orch.types import Probed

if TYPE_CHECKING:
    import httpx

HEALTH_TIMEOUT_SECONDS = 10.0
PROMPT = "The capital of France is"
PROMPT_TOKENS = 8
"""Asked for in the proof that the server generates; several, because one token may be half a character."""


async def probe_health(client: httpx.AsyncClient, attempt: int) -> Probed:
    """Does `/health` answer 200? It can lie: vLLM has answered so with a dead engine."""
    reply = await request(client, "GET", "/health", None, HEALTH_TIMEOUT_SECONDS)
    return Probed(time.time(), attempt, "health", reply.ok, reply.detail)


async def probe_completion(
    client: httpx.AsyncClient, server: Server, attempt: int, timeout_seconds: float, max_tokens: int = PROMPT_TOKENS
) -> Probed:
    """Does one real completion bring tokens back? That is the proof that the engine generates.

    Tokens without text count: special ones, or ones beyond the tokenizer's vocabulary (random weights).
    """
    model = server.model or await read_model(client)
    body = {
        "model": model,
        "prompt": PROMPT,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,  # a model that would end at once must still show that it can generate
    }
    started = time.monotonic()
    reply = await request(client, "POST", "/v1/completions", body, timeout_seconds)
    seconds = time.monotonic() - started
    if not reply.ok:
        return Probed(time.time(), attempt, "completion", False, reply.detail)
    text, tokens = text_of(reply.json), output_tokens_of(reply.json)
    values = {"total_seconds": seconds}
    if tokens is not None:
        values["output_tokens"] = float(tokens)
    detail = text or describe_wordless("completion", tokens)
    return Probed(time.time(), attempt, "completion", bool(text or tokens), detail, values)


def describe_wordless(what: str, tokens: int | None) -> str:
    """What is said of a reply without text: how many tokens it has all the same."""
    return f"the {what} has {tokens} tokens and no text" if tokens else f"the {what} is empty"


async def read_model(client: httpx.AsyncClient) -> str | None:
    """The name under which the server offers its (first) model; None when it does not tell."""
    reply = await request(client, "GET", "/v1/models", None, HEALTH_TIMEOUT_SECONDS)
    models = reply.json.get("data")
    first = models[0] if isinstance(models, list) and models else None
    return first.get("id") if isinstance(first, dict) else None
