"""What all visits share: the state machine, the link to the engine, the timer that lets time pass for the machine."""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp
from yarl import URL

from nexus_orch.door.core.orders import Order
from nexus_orch.door.core.state import DoorState
from nexus_orch.door.rules import HouseRules

CONNECT_SECONDS = 5.0
KEPT_SECONDS = 2.0
"""How long a connection to the engine may lie idle; vLLM closes its side after 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)."""
TICK_SECONDS = 0.25
"""How often the machine looks for what has waited too long, while there are requests at all."""


class Guest(Protocol):
    """Who obeys the orders for one request."""

    def take(self, order: Order) -> None: ...


class House:
    """Belongs to the thread of its event loop."""

    def __init__(self, rules: HouseRules, state: DoorState | None = None) -> None:
        self.rules = rules
        self._loop = asyncio.get_running_loop()
        self.state = state or DoorState(self._loop.time())
        self.engine_url: str | None = None
        self.max_model_len = 0
        """Tokens of prompt and answer together."""
        self.reading_bytes = 0
        """Of bodies that have not come in wholly."""
        self.trouble = ""
        """What is wrong with an engine that serves all the same."""
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
        )
        self._guests: dict[int, Guest] = {}
        self._last = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        return self._loop.time()

    def url(self, path: str) -> URL:
        """Where the engine takes this path, which stays as the client wrote it."""
        return URL(f"{self.engine_url}{path}", encoded=True)

    def reserve(self, size: int) -> bool:
        """Room for a part of a body that comes in; False when there is none."""
        if self.state.kept_bytes + self.reading_bytes + size > self.state.limits.kept_bytes:
            return False
        self.reading_bytes += size
        return True

    def enter(self, guest: Guest) -> int:
        """A number for a request; orders for it go to this guest from now on."""
        self._last += 1
        self._guests[self._last] = guest
        return self._last

    def forget(self, number: int) -> None:
        """No order comes for this request any more."""
        self._guests.pop(number, None)

    def obey(self, orders: list[Order]) -> None:
        """Hand the orders to those whom they are for."""
        for order in orders:
            self._guests[order.id].take(order)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and len(self.state):
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.obey(self.state.tick(self.now))

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self.session.close()
