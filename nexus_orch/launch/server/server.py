"""An OpenAI-compatible server on this machine, and how it is asked. A failure is an answer, too: nothing raises."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_orch.launch.server.ports import reachable_host

if TYPE_CHECKING:
    import httpx

Result = TypeVar("Result")

_STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Server:
    """Where the engine listens, under which name it serves the model (None asks it), and the key it wants."""

    host: str
    port: int
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        host = reachable_host(self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Reply:
    """`ok` is HTTP 200; else `detail` says what went wrong. `json` is empty when the answer is no JSON object."""

    ok: bool
    detail: str
    json: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def open_client(server: Server, connections: int = 100) -> AsyncIterator[httpx.AsyncClient]:
    """A client for this server only: no proxy from the environment, and no certificates to load for plain HTTP.

    `connections` are open at once at most.
    """
    import httpx  # noqa: PLC0415 - 100 ms that only a launch needs

    headers = {} if server.api_key is None else {"Authorization": f"Bearer {server.api_key}"}
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, trust_env=False, verify=False, limits=limits
    ) as client:
        yield client


def run_until(stop: threading.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run a coroutine to its end and give its result, or cancel it and give None as soon as `stop` is set."""

    async def guard() -> Result | None:
        task = asyncio.ensure_future(work)
        while not task.done() and not stop.is_set():
            await asyncio.wait({task}, timeout=_STOP_POLL_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    return asyncio.run(guard())


async def request(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None, timeout_seconds: float
) -> Reply:
    """Ask once, within the time."""
    import httpx  # noqa: PLC0415

    try:
        async with asyncio.timeout(timeout_seconds):
            response = await client.request(method, path, json=body, timeout=timeout_seconds)
        if response.status_code != 200:
            return Reply(False, describe_status(response.status_code, response.content))
    except (httpx.HTTPError, TimeoutError) as error:
        return Reply(False, describe_error(error, timeout_seconds))
    return Reply(True, "", _parse_object(response.content))


def text_of(reply: Mapping[str, Any]) -> str:
    """The text of a completion, a chat message or a piece of either; the reasoning of a model that thinks aloud."""
    choices = reply.get("choices")
    choice = as_mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = as_mapping(choice.get("delta") or choice.get("message"))
    found = choice.get("text") or message.get("content") or message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else ""


def output_tokens_of(reply: Mapping[str, Any]) -> int | None:
    """How many tokens the server says that it generated."""
    count = as_mapping(reply.get("usage")).get("completion_tokens")
    return count if isinstance(count, int) else None


def as_mapping(value: object) -> Mapping[str, Any]:
    """The value when it is a JSON object, else an empty one: a port may belong to a server of another kind."""
    return value if isinstance(value, dict) else {}


def _parse_object(content: bytes) -> Mapping[str, Any]:
    try:
        return as_mapping(json.loads(content))
    except ValueError:
        return {}


def describe_status(status: int, content: bytes) -> str:
    """The status with the message that came with it."""
    try:
        message = message_of(json.loads(content))
    except ValueError:
        message = content.decode("utf-8", errors="replace").strip()
    return f"HTTP {status}: {message[:300]}" if message else f"HTTP {status}"


def describe_error(error: Exception, timeout_seconds: float) -> str:
    """Why there was no answer."""
    import httpx  # noqa: PLC0415

    if isinstance(error, (TimeoutError, httpx.TimeoutException)):
        return f"no answer within {timeout_seconds:g} s"
    if isinstance(error, httpx.ConnectError):
        return "nothing listens there yet"
    return f"{type(error).__name__}: {error}".rstrip(": ")


def message_of(reply: Any) -> str:
    """The message of vLLM's errors: under `error` in newer releases, at the top in older ones."""
    error = reply.get("error", reply) if isinstance(reply, dict) else reply
    return str(error.get("message", "")) if isinstance(error, dict) else str(error)
