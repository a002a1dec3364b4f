"""The public side: accepts connections within bounds, and lets nobody hold one without asking for something."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

HEADER_SECONDS = 10.0
"""Within which a new connection must have sent a whole header."""
IDLE_SECONDS = 75.0
"""How long a connection may wait for its next request; also how long the header of that one may take."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read and thrown away, so that its client can read why."""
MOST_HEADERS, MOST_HEADER_BYTES = 100, 16_384

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 76\r\n\r\n"
    b'{"error": {"message": "too many connections", "type": "server", "code": 503}}'
)

_QUIET = logging.getLogger("nexus_orch.door")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False  # a client's bad request is answered, and no line in the run's terminal


class _Refusing(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_FULL)
            transport.close()


class DoorServer(web.Server):
    """An HTTP server for one handler. It is the factory of the protocols that an event loop's server takes."""

    def __init__(self, handle: Handle, most_connections: int) -> None:
        super().__init__(
            handle,
            request_factory=self._begin_request,
            handler_cancellation=True,
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=MOST_HEADER_BYTES,
            max_field_size=MOST_HEADER_BYTES,
            max_headers=MOST_HEADERS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=None,
            logger=_QUIET,
        )
        self.refused = 0
        self._most = most_connections
        self._accepted: set[RequestHandler] = set()
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}

    def accept(self) -> asyncio.Protocol:
        """What takes the next connection."""
        if len(self._accepted) >= self._most:
            self.refused += 1
            return _Refusing()
        handler = self()
        self._accepted.add(handler)
        self._silent[handler] = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._give_up, handler)
        return handler

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._break_silence(handler)
        self._accepted.discard(handler)
        super().connection_lost(handler, exc)

    def _give_up(self, handler: RequestHandler) -> None:
        self._silent.pop(handler, None)
        handler.force_close()

    def _break_silence(self, handler: RequestHandler) -> None:
        timer = self._silent.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _begin_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """A whole header has come in."""
        self._break_silence(protocol)
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())
