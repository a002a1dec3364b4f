"""One question to a server that is ready: the answer as it streams in, and how fast it came."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nexus_orch.launch.server.probes import describe_wordless, read_model
from nexus_orch.launch.server.server import (
    Server,
    as_mapping,
    describe_error,
    describe_status,
    message_of,
    open_client,
    output_tokens_of,
    run_until,
    text_of,
)
from nexus_orch.types import Probed

if TYPE_CHECKING:
    import httpx

_NOT_UNDERSTOOD = frozenset({400, 404, 405, 422, 501})
"""Statuses of a request that this server or model does not know (no chat template, an older release)."""


def ask_question(
    server: Server,
    question: str,
    *,
    attempt: int,
    max_tokens: int = 64,
    timeout_seconds: float = 600.0,
    stop: threading.Event | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Probed:
    """Ask as a chat and stream the answer (`on_text` gets each piece); without a chat template, complete the text.

    The values of the answer: output_tokens, time_to_first_token_seconds, total_seconds and tokens_per_second (after
    the first token). Setting `stop` ends the question.
    """
    stop = stop or threading.Event()
    asking = _ask(
        server,
        question,
        attempt=attempt,
        max_tokens=max_tokens,
        timeout_seconds=timeout_seconds,
        on_text=on_text or _ignore,
    )
    answer = run_until(stop, asking)
    return answer or Probed(time.time(), attempt, "question", False, "the question was cancelled")


async def _ask(
    server: Server,
    question: str,
    *,
    attempt: int,
    max_tokens: int,
    timeout_seconds: float,
    on_text: Callable[[str], None],
) -> Probed:
    refusal = ""
    async with open_client(server) as client:
        common = {"model": server.model or await read_model(client), "max_tokens": max_tokens, "temperature": 0}
        for path, form in _make_forms(question):
            answer = _Answer(on_text)
            status = await answer.read(client, path, common | form | {"stream": True}, timeout_seconds)
            refusal = refusal or answer.error
            if status not in _NOT_UNDERSTOOD:
                return answer.make_probed(attempt)
    return Probed(time.time(), attempt, "question", False, refusal)


def _make_forms(question: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """From the best to the plainest: old releases refuse stream_options, base models have no chat template."""
    chat = {"messages": [{"role": "user", "content": question}]}
    usage = {"stream_options": {"include_usage": True}}
    return (
        ("/v1/chat/completions", chat | usage),
        ("/v1/chat/completions", chat),
        ("/v1/completions", {"prompt": question} | usage),
        ("/v1/completions", {"prompt": question}),
    )


class _Answer:
    """A streamed answer while it comes in."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self.error = ""
        self._on_text = on_text
        self._pieces: list[str] = []
        self._tokens: int | None = None
        self._started = time.monotonic()
        self._texts: list[float] = []
        self._events: list[float] = []
        """When each piece of text came, and each event at all: the first of a chat may carry no more than a role."""

    async def read(self, client: httpx.AsyncClient, path: str, body: dict[str, Any], timeout_seconds: float) -> int:
        """Read it to its end and give the HTTP status, 0 when there was none."""
        import httpx  # noqa: PLC0415

        self._started = time.monotonic()
        try:
            async with asyncio.timeout(timeout_seconds):
                async with client.stream("POST", path, json=body, timeout=timeout_seconds) as response:
                    if response.status_code != 200:
                        self.error = describe_status(response.status_code, await response.aread())
                        return response.status_code
                    async for line in response.aiter_lines():
                        self._take(line)
                    return response.status_code
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            self.error = describe_error(error, timeout_seconds)
            return 0

    def make_probed(self, attempt: int) -> Probed:
        text = "".join(self._pieces)
        tokens = self._tokens or len(self._pieces)
        if self.error or not tokens:
            return Probed(time.time(), attempt, "question", False, self.error or describe_wordless("answer", None))
        times = self._texts or self._events or [self._started]
        values = {
            "output_tokens": float(tokens),
            "time_to_first_token_seconds": times[0] - self._started,
            "total_seconds": times[-1] - self._started,
        }
        if tokens > 1 and times[-1] > times[0]:
            values["tokens_per_second"] = (tokens - 1) / (times[-1] - times[0])
        detail = text or describe_wordless("answer", tokens)
        return Probed(time.time(), attempt, "question", True, detail, values)

    def _take(self, line: str) -> None:
        """One server-sent event: a piece of text, the usage, an error, or the end."""
        if not line.startswith("data:") or line.endswith("[DONE]"):
            return
        event = as_mapping(json.loads(line.removeprefix("data:")))
        if "error" in event:
            self.error = message_of(event) or "the server broke off"
        self._tokens = output_tokens_of(event) or self._tokens
        if not event.get("choices"):
            return
        self._events.append(time.monotonic())
        text = text_of(event)
        if text:
            self._texts.append(self._events[-1])
            self._pieces.append(text)
            self._on_text(text)


def _ignore(text: str) -> None:
    return
