"""The door as the run's session sees it: opened before the first start, told of each change, closed at the end.

It lives in a thread of the supervisor, with an event loop of its own. A process of its own would be shielded from a
flood of log lines, and would be one more thing that can be killed, outlive its run and hold the port: the supervisor's
end is the end of the service in any case. What is told of the engine is handed over to the loop, never waited for.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nexus_orch.door.core.orders import Order
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.launch.server.ports import address_of

if TYPE_CHECKING:
    from nexus_orch.door.edge.house import House
    from nexus_orch.door.rules import HouseRules

MOST_CONNECTIONS = 2048
SPARE_FILES = 256
"""File descriptors that the supervisor needs for itself."""
BACKLOG = 1024
CLOSE_SECONDS = 5.0
"""How long clients have to read the end of their answers when the door is closed."""


@dataclass(frozen=True)
class Address:
    """Where the door listens."""

    host: str
    port: int
    origin: str | None = None


class FrontDoor:
    """For the thread of the session; nothing here waits, except `open` and `close`."""

    def __init__(self, address: Address, rules: HouseRules) -> None:
        self._address = address
        self._rules = rules
        self._loop: asyncio.AbstractEventLoop | None = None
        self._house: House | None = None
        self._is_open = threading.Event()
        self._failure: BaseException | None = None
        self._closing = asyncio.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Take the port and let clients in. Raises ConfigError when the port is taken."""
        listening = _listen(self._address)
        self._loop = asyncio.new_event_loop()
        run = partial(self._run, self._loop, listening)
        self._thread = threading.Thread(target=run, name="nexus-door", daemon=True)
        self._thread.start()
        self._is_open.wait()
        if self._failure is not None:
            raise self._failure

    def starting(self) -> None:
        """The engine is being started (again)."""
        self._tell(lambda house: house.state.engine_starts())

    def pausing(self, seconds: float) -> None:
        """The next start comes after this pause."""
        self._tell(lambda house: house.state.engine_waits(seconds))

    def ready(self, url: str, slots: int, max_model_len: int) -> None:
        """The engine answers at this address; its plan holds so many sequences of so many tokens."""

        def tell(house: House) -> list[Order]:
            house.engine_url, house.trouble, house.max_model_len = url, "", max_model_len
            return house.state.engine_is_ready(house.now, slots)

        self._tell(tell)

    def troubled(self, reason: str) -> None:
        """Something is wrong with the engine, which serves all the same; "" when it is well again."""

        def tell(house: House) -> None:
            house.trouble = reason

        self._tell(tell)

    def doubted(self) -> None:
        """A process of the engine is gone; what follows from that will be told."""
        self._tell(lambda house: house.state.engine_is_doubted())

    def draining(self, reason: str, longest_seconds: float) -> None:
        """The engine gets nothing new: it is to be started again when it has answered what it has."""
        self._tell(lambda house: house.state.engine_drains(house.now, reason, longest_seconds))

    def down(self, reason: str, *, is_death: bool, convicts: bool = False) -> None:
        """The engine is gone, or is as good as gone; see `DoorState.engine_is_down`."""
        self._tell(lambda house: house.state.engine_is_down(house.now, reason, is_death=is_death, convicts=convicts))

    def given_up(self, reason: str) -> None:
        """There will be no engine any more."""
        self._tell(lambda house: house.state.engine_is_given_up(house.now, reason))

    def close(self, reason: str) -> None:
        """End every answer with this reason and give the port back. Does nothing the second time."""
        if self._thread is None:
            return
        self.given_up(reason)
        self._tell(lambda house: self._closing.set())
        self._thread.join(2 * CLOSE_SECONDS)

    def _tell(self, change: Callable[[House], list[Order] | None]) -> None:
        def apply() -> None:
            if self._house is not None:
                self._house.obey(change(self._house) or [])

        if self._loop is not None:
            with suppress(RuntimeError):  # the door is closed already
                self._loop.call_soon_threadsafe(apply)

    def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            try:
                runner.run(self._serve(loop, listening))
            except BaseException as error:
                self._failure = error
                raise
            finally:
                self._is_open.set()

    async def _serve(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        from nexus_orch.door.edge.desk import Desk  # noqa: PLC0415 - aiohttp takes 0.2 s that only a door needs
        from nexus_orch.door.edge.house import House  # noqa: PLC0415

        self._house = House(self._rules)
        desk = Desk(self._house, _most_connections())
        server = await loop.create_server(desk.listener.accept, sock=listening, backlog=BACKLOG)
        self._is_open.set()
        await self._closing.wait()
        server.close()
        await desk.listener.shutdown(CLOSE_SECONDS)
        await self._house.close()


def _listen(address: Address) -> socket.socket:
    """A listening socket: clients that come before the loop runs wait in its backlog."""
    family, numeric = address_of(address.host)
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((numeric, address.port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        message = f"port {address.port} cannot be listened on at {address.host}: {error.strerror}"
        remedy = "choose another serve.port, or leave it out"
        problem = Problem(message, "serve.port", address.port, address.origin, remedy, "port_in_use")
        raise ConfigError(problem) from error
    return listening


def _most_connections() -> int:
    """Each request may take two files: its client's connection and its own to the engine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CONNECTIONS + SPARE_FILES
    if soft < wanted and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(16, min(MOST_CONNECTIONS, (soft - SPARE_FILES) // 2))
