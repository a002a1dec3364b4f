"""One request from its header to the end of its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import aiohttp
from aiohttp import web

from nexus_orch.door.core.orders import Arrival, Break, Order, PassOn, Recall, Refuse, Send
from nexus_orch.door.edge import answers
from nexus_orch.door.edge.asked import count_sequences, fingerprint, parse_body
from nexus_orch.door.edge.body import BodyError, read_body
from nexus_orch.door.edge.client import EVENTS, JSON, ClientSide
from nexus_orch.door.edge.continuing import CannotContinueError, Continuation, can_continue
from nexus_orch.door.edge.headers import Headers, to_client, to_engine
from nexus_orch.door.edge.house import House
from nexus_orch.door.edge.routes import Route
from nexus_orch.door.edge.sse import EventReader, StreamTooLargeError, split_events

WHOLE_BYTES = 2**20
"""An answer that is no stream is read up to this size before the client gets a word of it: until then it can be asked
for again."""

LARGE_BYTES = 2**16
"""From this size on a body is sent piece by piece, so that the others have their turns between."""

CONTINUES = "X-Nexus-Continues"
"""A header of streams that would go on after a death of the engine."""
CONTINUED = b": continued after a restart of the engine\n\n"
"""A comment in a stream that did; clients pass it over."""

Outcome = Literal["finished", "failed", "error", "recalled"]
"""Of one time that it was sent; `error` is one of the engine's own, kept until it is known whether the engine lives."""


@dataclass(frozen=True)
class _Answer:
    """What the engine said, kept until the client may have it."""

    status: int
    headers: Headers
    content: bytes


class Visit:
    """A client's request for a route."""

    def __init__(self, house: House, request: web.BaseRequest, route: Route, request_id: str) -> None:
        self._house = house
        self._request = request
        self._route = route
        self._id = request_id
        self._client = ClientSide(request, route.style)
        self._body = b""
        self._number = 0
        self._is_over = False
        """The state machine knows it no more."""
        self._orders: list[Order] = []
        self._woken = asyncio.Event()
        self._sends = 0
        self._attempt: asyncio.Task[Outcome] | None = None
        self._is_recalled = False
        self._kept: _Answer | None = None
        self._continuation: Continuation | None = None
        self._has_brought = False
        """Something of the answer has come since it was sent last."""

    async def run(self) -> web.StreamResponse:
        """The answer, which has been sent already. Raises ClientGoneError."""
        reserved = 0

        def reserve(size: int) -> bool:
            nonlocal reserved
            has_room = self._house.reserve(size)
            reserved += size if has_room else 0
            return has_room

        try:
            self._body = await read_body(self._request, self._house.rules.most_body_bytes, reserve)
        except BodyError as error:
            return await self._client.refuse(error.status, str(error), self._id)
        finally:
            self._house.reading_bytes -= reserved
        return await self._stay()

    async def _stay(self) -> web.StreamResponse:
        """From its arrival to its end, whatever ends it."""
        house, path = self._house, self._request.rel_url.raw_path
        content = parse_body(self._body) if self._request.content_type == JSON else {}
        weight = count_sequences(content) if self._route.generates else 0
        if house.rules.continues and can_continue(path, content):
            self._continuation = Continuation(path, content)
        self._number = house.enter(self)
        try:
            continues = self._continuation is not None
            arrival = Arrival(len(self._body), fingerprint(path, self._body), weight, continues)
            house.obey(house.state.arrive(house.now, self._number, arrival))
            while True:
                order = await self._next_order()
                if not isinstance(order, Send):
                    return await self._conclude(order)
                outcome = await self._send()
                if outcome == "finished" and (self._client.has_ended or not self._is_over):
                    return await self._finish()
                if outcome in ("failed", "error") and not self._is_over:
                    house.obey(house.state.doubt(house.now, self._number, has_answer=outcome == "error"))
        finally:
            if not self._is_over:
                house.obey(house.state.leave(house.now, self._number))
            house.forget(self._number)

    def take(self, order: Order) -> None:
        """An order of the state machine."""
        if self._attempt is not None and not isinstance(order, Send):
            self._attempt.cancel()
            self._is_recalled = True
        if not isinstance(order, Recall):
            self._is_over = not isinstance(order, Send)
            self._orders.append(order)
            self._woken.set()

    async def _next_order(self) -> Order:
        while not self._orders:
            self._woken.clear()
            await self._woken.wait()
        return self._orders.pop(0)

    async def _finish(self) -> web.StreamResponse:
        """The engine is done with it; a whole answer goes to the client now, however slowly that one reads."""
        if not self._is_over:
            self._is_over = True
            self._house.obey(self._house.state.finish(self._house.now, self._number))
        if self._kept is None or self._client.has_ended:
            return self._client.response
        return await self._client.answer(self._kept.status, self._kept.headers, self._kept.content)

    async def _conclude(self, order: Order) -> web.StreamResponse:
        """The end that the state machine has decided on."""
        client = self._client
        match order:
            case Refuse():
                return await client.refuse(order.status, order.message, self._id, order.retry_seconds)
            case Break():
                return await client.break_off(answers.make_error_event(self._route.style, 503, order.message))
            case PassOn() if self._kept is not None and client.has_begun:
                return await client.break_off(self._kept.content)
            case PassOn() if self._kept is not None:
                return await client.answer(self._kept.status, self._kept.headers, self._kept.content)
            case _:
                raise AssertionError(f"{order} ends nothing")

    async def _send(self) -> Outcome:
        """Send it to the engine and hand on the answer, until that ends or the request is recalled."""
        self._sends += 1
        self._is_recalled, self._has_brought, self._kept = False, False, None
        path, body = self._request.rel_url.raw_path_qs, self._body
        if self._continuation is not None:
            self._continuation.max_model_len = self._house.max_model_len
            if self._continuation.is_whole:
                await self._client.write(self._continuation.make_end())
                await self._client.end()
                return "finished"
            try:
                path, body = self._continuation.make_request()
            except CannotContinueError as error:
                message = f"the engine died, and the stream cannot go on: {error}"
                self._house.obey(self._house.state.break_off(self._house.now, self._number, message))
                return "recalled"
        self._attempt = asyncio.ensure_future(self._ask(path, body))
        try:
            await asyncio.wait({self._attempt})
            outcome = "recalled" if self._attempt.cancelled() else self._attempt.result()
            return "recalled" if self._is_recalled and outcome != "finished" else outcome
        finally:
            self._attempt.cancel()
            self._attempt = None

    async def _ask(self, path: str, body: bytes) -> Outcome:
        request, house = self._request, self._house
        own_id = self._id if self._sends == 1 else f"{self._id}-{self._sends}"
        told = to_engine(request.headers, request_id=own_id, key=house.rules.api_key, client=request.remote)
        try:
            async with house.session.request(
                request.method,
                house.url(path),
                headers=told,
                data=body if len(body) < LARGE_BYTES else BytesIO(body),
                allow_redirects=False,
            ) as answer:
                passed = to_client(answer.headers, request_id=self._id, sends=self._sends)
                if answer.status < 500 and answer.content_type == EVENTS:
                    return await self._hand_on_events(answer, passed)
                if self._client.has_begun:
                    return "failed"  # the rest of a stream is refused
                return await self._hand_on_whole(answer, passed)
        except (aiohttp.ClientError, TimeoutError, ConnectionError, StreamTooLargeError):
            return "failed"

    async def _hand_on_whole(self, answer: aiohttp.ClientResponse, passed: Headers) -> Outcome:
        """An answer that is no stream: whole, or from some size on as it comes."""
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > WHOLE_BYTES and answer.status < 500:
                await self._begin(answer.status, passed)
                await self._client.write(b"".join(pieces))
                async for rest in answer.content.iter_any():
                    await self._client.write(rest)
                await self._client.end()
                return "finished"
        self._kept = _Answer(answer.status, passed, b"".join(pieces)[:WHOLE_BYTES])
        return "finished" if answer.status < 500 else "error"

    async def _hand_on_events(self, answer: aiohttp.ClientResponse, passed: Headers) -> Outcome:
        """A stream of events: begun with the first whole one, finished only by its own mark of an end."""
        reader = EventReader(self._route.style)
        is_ended = False
        async for chunk in answer.content.iter_any():
            for piece in reader.read(chunk):
                if piece.is_error:
                    self._kept = _Answer(answer.status, passed, piece.content)
                    return "error"
                await self._begin(answer.status, passed)
                await self._client.write(self._retell(piece.content))
                is_ended = is_ended or piece.is_end
        if not is_ended:
            return "failed"
        await self._client.end()
        return "finished"

    async def _begin(self, status: int, passed: Headers) -> None:
        """The first word of the answer, or of the rest of it, is there."""
        if self._has_brought:
            return
        self._has_brought = True
        self._house.obey(self._house.state.begin(self._house.now, self._number))
        if self._client.has_begun:
            await self._client.write(CONTINUED)
            return
        if self._continuation is not None:
            passed[CONTINUES] = "yes"
        await self._client.begin(status, passed)

    def _retell(self, events: bytes) -> bytes:
        """Events as the client is to have them."""
        if self._continuation is None:
            return events
        return b"".join(map(self._continuation.take, split_events(events)))
