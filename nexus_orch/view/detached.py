"""A text stream that never makes its writer wait: a thread of its own hands the text on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

MOST_CHARACTERS = 1 << 20
"""What may wait for a reader: hours of plain lines, some hundred frames of the live view."""


class DetachedStream:
    """Writes to another stream. A terminal that stops reading (Ctrl-S, a pipe into a pager) would stop whoever writes
    to it, and with it the loop that watches an engine; here it only lets text wait, and then be left out.

    `render_gap` makes the text that stands for so many writes that were left out; without it they are missed by nobody,
    as frames are. An error of the reader is raised by the next write. What is written after `close` is not handed on.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        most_characters: int = MOST_CHARACTERS,
        render_gap: Callable[[int], str] | None = None,
    ) -> None:
        self._stream = stream
        self._most = most_characters
        self._render_gap = render_gap
        self._pending: deque[str] = deque()
        self._size = 0
        self._left_out = 0
        self._error: Exception | None = None
        self._is_ending = False
        self._changed = threading.Condition()
        self._writer = threading.Thread(target=self._write_on, name="nexus-view", daemon=True)
        self._writer.start()

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except ValueError:  # somebody closed it
            return False

    @property
    def is_read_up(self) -> bool:
        """Whether all that was taken has been handed on."""
        return self._size == 0

    def write(self, text: str) -> int:
        """Take the text, or leave it out when too much waits already. Raises what the reader's end raised."""
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._size + len(text) > self._most and self._pending:
                self._left_out += 1
                return len(text)
            self._note_gap()
            self._append(text)
            self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing: all that was taken is on its way."""

    def close(self) -> None:
        """Wait until the reader has everything, however long it takes: all that depends on this process is done by
        then. The other stream stays open."""
        with self._changed:
            if self._error is None:
                self._note_gap()
            self._is_ending = True
            self._changed.notify()
        self._writer.join()

    def _note_gap(self) -> None:
        if self._left_out and self._render_gap is not None:
            self._append(self._render_gap(self._left_out))
        self._left_out = 0

    def _append(self, text: str) -> None:
        self._pending.append(text)
        self._size += len(text)

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._is_ending)
                if not self._pending:
                    return
                text = self._pending.popleft()
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError) as error:  # ValueError: somebody closed it
                with self._changed:
                    self._error = error
                    self._pending.clear()
                return
            with self._changed:
                self._size -= len(text)
