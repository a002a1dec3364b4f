"""A bounded buffer of bytes between a producer that must never wait and a consumer that may be slow."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from nexus_orch.types import MIB

CAPACITY_BYTES = 8 * MIB


@dataclass(frozen=True)
class Taken:
    """What a consumer got: `data`, after which `dropped_bytes` were lost before the next piece begins."""

    data: bytearray
    dropped_bytes: int = 0


class LogBuffer:
    """Keeps what came first and counts what did not fit; the gap is always at the end of what is taken."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._data = bytearray()
        self._dropped_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, piece: bytes) -> None:
        """Keep the piece, or drop it when there is no room. Never waits for the consumer."""
        with self._changed:
            if self._dropped_bytes or len(self._data) + len(piece) > self._capacity_bytes:
                self._dropped_bytes += len(piece)
            else:
                self._data += piece
            self._changed.notify()

    def close(self) -> None:
        """No more pieces will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, timeout_seconds: float | None = None) -> Taken | None:
        """Everything that waits, after waiting for it at most so long (then it is empty); None at the end."""
        with self._changed:
            if not self._data and not self._dropped_bytes and not self._closed:
                self._changed.wait(timeout_seconds)
            if not self._data and not self._dropped_bytes and self._closed:
                return None
            taken = Taken(self._data, self._dropped_bytes)
            self._data, self._dropped_bytes = bytearray(), 0
            return taken
