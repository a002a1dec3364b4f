"""Reads a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from nexus_orch.types.units import MIB

PAUSE_SECONDS = 20.0
"""How long a client may send nothing while it owes a part of its body."""
WHOLE_SECONDS = 300.0
"""How long the whole body may take."""


class BodyError(Exception):
    """The body cannot be taken; `status` says why in HTTP's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_body(request: web.BaseRequest, most_bytes: int, reserve: Callable[[int], bool]) -> bytes:
    """The whole body. `reserve` is asked for room as it comes in. Raises BodyError."""
    too_large = BodyError(413, f"the body has more than {most_bytes / MIB:g} MiB (limits.body_mib)")
    if (request.content_length or 0) > most_bytes:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            while True:
                async with asyncio.timeout(PAUSE_SECONDS):
                    piece = await request.content.readany()
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)
                size += len(piece)
                if size > most_bytes:
                    raise too_large
                if not reserve(len(piece)):
                    raise BodyError(503, "the requests that wait fill the door's memory")
    except TimeoutError:
        raise BodyError(408, "the body did not come in time") from None
