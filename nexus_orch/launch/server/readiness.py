"""The watch over a server: first until it is proven ready, then whether it stays so.

Ready means that the process lives, `/health` answers and one real completion came back. There is no deadline here:
who watches the whole start gives up when nothing moves any more.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus_orch.launch.server.probes import PROMPT_TOKENS, probe_completion, probe_health
from nexus_orch.launch.server.server import Server, open_client, run_until
from nexus_orch.types import FOREIGN, Observation

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class WatchTimes:
    """How often the server is asked, in seconds."""

    first_poll: float = 0.25
    last_poll: float = 1.0
    """While it boots, `/health` is asked after 0.25 s, and then less and less often down to this."""
    first_completion_timeout: float = 60.0
    last_completion_timeout: float = 960.0
    """The first completion of a large offloaded model takes minutes: the patience doubles with each failure."""
    serving_poll: float = 5.0
    suspect_timeout: float = 30.0
    """How long a server that seems to hang has for one token."""
    recheck: float | None = 300.0
    """How long an idle server may go without a completion while `/health` alone says that it lives; None for ever."""


class ReadinessWatch:
    """A thread that emits `Probed` for health (when it changes, and every failure once it served) and completions."""

    def __init__(
        self,
        server: Server,
        *,
        attempt: int,
        emit: Callable[[Observation], None],
        is_idle: Callable[[], bool] | None = None,
        is_suspect: Callable[[], bool] | None = None,
        is_ours: Callable[[], bool] | None = None,
        times: WatchTimes | None = None,
    ) -> None:
        """`is_idle` says whether the server has no requests, as its own metrics tell; a busy one is not rechecked,
        unless `is_suspect` says that it seems to hang: then it is asked for one token.

        `is_ours` says whether the engine itself listens on the port: another server that took it first must not count
        as this one being ready.
        """
        self._server = server
        self._attempt = attempt
        self._emit = emit
        self._is_idle = is_idle or _always
        self._is_suspect = is_suspect or _never
        self._is_ours = is_ours or _always
        self._times = times or WatchTimes()
        self._stop = threading.Event()
        self._healthy: bool | None = None
        self._told: tuple[bool, str] | None = None
        self._thread = threading.Thread(target=self._run, name="nexus-readiness", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the watch and any request that is under way; returns when it has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        run_until(self._stop, self._watch())

    async def _watch(self) -> None:
        async with open_client(self._server) as client:
            await self._wait_for_proof(client)
            await self._watch_serving(client)

    async def _wait_for_proof(self, client: httpx.AsyncClient) -> None:
        pause, patience = self._times.first_poll, self._times.first_completion_timeout
        while True:
            if await self._is_healthy(client):
                if await self._completes(client, patience):
                    return
                patience = min(2 * patience, self._times.last_completion_timeout)
                pause = self._times.serving_poll
            await asyncio.sleep(pause)
            pause = min(1.25 * pause, self._times.last_poll)

    async def _watch_serving(self, client: httpx.AsyncClient) -> None:
        proven = time.monotonic()
        while True:
            await asyncio.sleep(self._times.serving_poll if self._healthy else self._times.last_poll)
            if not await self._is_healthy(client, tell_failures=True):
                continue
            if self._is_suspect():
                await self._completes(client, self._times.suspect_timeout, max_tokens=1)
                continue
            if self._times.recheck is None:
                continue
            if not self._is_idle():
                proven = time.monotonic()  # whoever gets answers proves more than a probe of ours
            elif time.monotonic() - proven >= self._times.recheck:
                await self._completes(client, self._times.first_completion_timeout)
                proven = time.monotonic()

    async def _is_healthy(self, client: httpx.AsyncClient, *, tell_failures: bool = False) -> bool:
        probed = await probe_health(client, self._attempt)
        if probed.ok and not self._is_ours():
            probed = replace(probed, ok=False, detail="another process answers on this port", values={FOREIGN: 1.0})
        if (probed.ok, probed.detail) != self._told or (tell_failures and not probed.ok):
            self._emit(probed)
        self._healthy = probed.ok
        self._told = (probed.ok, probed.detail)
        return probed.ok

    async def _completes(
        self, client: httpx.AsyncClient, patience_seconds: float, *, max_tokens: int = PROMPT_TOKENS
    ) -> bool:
        probed = await probe_completion(client, self._server, self._attempt, patience_seconds, max_tokens)
        self._emit(probed)
        return probed.ok


def _always() -> bool:
    return True


def _never() -> bool:
    return False
