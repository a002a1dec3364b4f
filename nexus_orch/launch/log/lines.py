"""Bytes of a terminal-minded program become lines of plain text."""

from __future__ import annotations

import re

LINE_LIMIT_BYTES = 16 * 1024
"""A longer line is cut here, with a mark."""

Line = tuple[bytes, int]
"""A line without its end, and how many bytes of the stream it stands for (line end, cut and overwritten text too)."""

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements (ECMA-48, 5.4)
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|[@-Z\\-_])"  # the other C1 controls
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class LineCutter:
    """Cuts a stream of bytes into lines, in bounded memory.

    A carriage return starts the line again, as in a terminal: of a progress bar (tqdm) only the last state is left.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._rest_size = 0

    @property
    def unfinished(self) -> bytes:
        """The present state of the line that has no end yet: a progress bar, a prompt, or nothing."""
        return _last_state(self._rest)

    def feed(self, data: bytes) -> list[Line]:
        """The lines that this data finishes."""
        pieces = data.split(b"\n")
        first, last = self._rest + pieces[0], pieces.pop()
        if not pieces:
            self._keep(first, self._rest_size + len(last))
            return []
        sizes = [len(piece) + 1 for piece in pieces]
        sizes[0] += self._rest_size
        pieces[0] = first
        self._keep(last, len(last))
        if b"\r" in data or b"\r" in first:
            pieces = [_last_state(piece) for piece in pieces]
        if max(map(len, pieces)) > LINE_LIMIT_BYTES:
            pieces = [_cut(piece, size) for piece, size in zip(pieces, sizes, strict=True)]
        return list(zip(pieces, sizes, strict=True))

    def finish(self) -> list[Line]:
        """The last line, when the stream ended without a line end."""
        line, size = _cut(self.unfinished, self._rest_size), self._rest_size
        self._rest, self._rest_size = b"", 0
        return [(line, size)] if size else []

    def _keep(self, rest: bytes, size: int) -> None:
        """Remember an unfinished line: its last state, and one byte more than the limit so that it will be cut."""
        state = _last_state(rest)[: LINE_LIMIT_BYTES + 1]
        self._rest = state + b"\r" if rest.endswith(b"\r") else state
        self._rest_size = size


def render_line(line: bytes) -> str:
    """Plain text: invalid UTF-8 replaced, colours and control characters taken out."""
    text = line.decode("utf-8", errors="replace")
    if text.isprintable():
        return text
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def _last_state(line: bytes) -> bytes:
    if b"\r" not in line:
        return line
    return next((state for state in reversed(line.split(b"\r")) if state), b"")


def _cut(line: bytes, size: int) -> bytes:
    if len(line) <= LINE_LIMIT_BYTES:
        return line
    return line[:LINE_LIMIT_BYTES] + f" [{size - LINE_LIMIT_BYTES} bytes cut]".encode()
