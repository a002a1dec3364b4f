"""The client's side of a visit: the answer as it is written, and clients that are gone or do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from nexus_orch.door.edge import answers
from nexus_orch.door.edge.headers import REQUEST_ID
from nexus_orch.door.edge.routes import Style

STALL_SECONDS = 60.0
"""How long a client may leave what was sent to it unread, once the buffers between are full."""

ROOMY_BYTES = 32_768
"""Half of what asyncio's transports keep before a writer must wait."""

JSON = "application/json"
EVENTS = "text/event-stream"


class ClientGoneError(Exception):
    """Nobody reads the answer any more."""


class ClientSide:
    """One answer. Every method raises ClientGoneError."""

    def __init__(self, request: web.BaseRequest, style: Style) -> None:
        self.response = web.StreamResponse()
        self.has_begun = False
        self.has_ended = False
        self._request = request
        self._style = style

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the header."""
        self.response = web.StreamResponse(status=status, headers=headers)
        self.has_begun = True
        await self._send(self.response.prepare(self._request))

    async def write(self, content: bytes) -> None:
        """Send a part of the answer; wait while the client does not read."""
        transport = self._request.transport
        if transport is None or transport.get_write_buffer_size() + len(content) > ROOMY_BYTES:
            await self._send(self.response.write(content))
            return
        try:
            await self.response.write(content)  # there is room: it takes no time
        except (ConnectionError, RuntimeError) as error:
            raise ClientGoneError from error

    async def end(self) -> web.StreamResponse:
        await self._send(self.response.write_eof())
        self.has_ended = True
        return self.response

    async def answer(self, status: int, headers: Mapping[str, str], content: bytes) -> web.StreamResponse:
        """Send a whole answer."""
        sized = CIMultiDict(headers)
        sized["Content-Length"] = str(len(content))
        await self.begin(status, sized)
        await self.write(content)
        return await self.end()

    async def refuse(
        self, status: int, message: str, request_id: str, retry_seconds: int | None = None
    ) -> web.StreamResponse:
        """Send an error of the door's own."""
        headers = {"Content-Type": JSON, REQUEST_ID: request_id}
        if retry_seconds is not None:
            headers["Retry-After"] = str(retry_seconds)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not waited for
        return await self.answer(status, headers, answers.make_error(self._style, status, message, request_id))

    async def break_off(self, event: bytes) -> web.StreamResponse:
        """End an answer that has begun: a stream by this event, another one by an end that no client takes for one."""
        if self.response.content_type == EVENTS:
            await self.write(event)
            return await self.end()
        self._abort()
        raise ClientGoneError

    async def _send(self, sending: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await sending
        except TimeoutError:
            self._abort()
            raise ClientGoneError from None
        except (ConnectionError, RuntimeError) as error:  # aiohttp says both of a transport that is closing
            raise ClientGoneError from error

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
