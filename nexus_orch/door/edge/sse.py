"""A stream of server-sent events on its way to the client: whole events only, so that it can be ended well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nexus_orch.door.edge.routes import Style

MOST_HELD_BYTES = 4 * 2**20
"""Of an event that does not end; vLLM's are a few kilobytes, with images of answers perhaps a megabyte."""

_ENDS: dict[Style, tuple[bytes, ...]] = {
    "openai": (b"data: [DONE]",),
    "anthropic": (b"event: message_stop",),
    "responses": (b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
}
_SIGNS = (b"[DONE]", b'"error"', b"event: error", b"message_stop", b"event: response.")
"""What is in each event that must be looked at; the others pass unread."""


class StreamTooLargeError(ValueError):
    """An event that does not end."""


@dataclass(frozen=True)
class EventPiece:
    """Whole events that are handed on. `is_end` is the regular end of the stream; `is_error` breaks it off."""

    content: bytes
    is_end: bool = False
    is_error: bool = False


class EventReader:
    """Cuts what the engine sends into pieces of whole events."""

    def __init__(self, style: Style) -> None:
        self._ends = _ENDS[style]
        self._rest = b""

    def read(self, chunk: bytes) -> Iterator[EventPiece]:
        """The pieces that this chunk completes."""
        content = self._rest + chunk if self._rest else chunk
        cut = content.rfind(b"\n\n") + 2
        if cut == 1:
            cut = 0
        self._rest = content[cut:]
        if len(self._rest) > MOST_HELD_BYTES:
            raise StreamTooLargeError
        whole = content[:cut]
        if not whole:
            return
        if not any(sign in whole for sign in _SIGNS):
            yield EventPiece(whole)
            return
        for event in split_events(whole):
            yield EventPiece(event, is_end=self._is_end(event), is_error=is_error(event))

    def _is_end(self, event: bytes) -> bool:
        return event.lstrip(b"\n").startswith(self._ends)


def split_events(whole: bytes) -> Iterator[bytes]:
    """Each event with the empty line that ends it."""
    start = 0
    while start < len(whole):
        end = whole.find(b"\n\n", start)
        end = len(whole) if end < 0 else end + 2
        yield whole[start:end]
        start = end


def read_data(event: bytes) -> Any:
    """The JSON of an event; None when it has none."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    try:
        return json.loads(b"\n".join(lines))
    except (ValueError, RecursionError):
        return None


def is_error(event: bytes) -> bool:
    """Whether the engine says with this event that it cannot go on, in any of the APIs' forms."""
    if event.lstrip(b"\n").startswith(b"event: error"):
        return True
    if b'"error"' not in event:
        return False
    data = read_data(event)
    return isinstance(data, dict) and bool(data.get("error")) and "response" not in data
