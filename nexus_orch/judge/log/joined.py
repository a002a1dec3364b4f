"""Lines that a terminal broke at its width, joined again.

A log that was copied from a terminal has many lines of exactly one length and none that is longer; what follows such a
line and does not begin as a line of a log does is its rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nexus_orch.judge.log.wrappers import holds_core

LEAST_WIDTH, MOST_WIDTH = 60, 300
LEAST_LINES = 3
"""So many lines must have had the full width before any is joined."""
MAX_JOINED = 40

_BEGINS = re.compile(
    r"\(?[A-Za-z]\w*[^()]{0,60} pid=\d+|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\b|Traceback |  File |    |\[|\{"
    r"|\d{4}-\d\d-\d\d"
    r"|(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b|[\w.-]+ +\| |[A-Z][a-z]{2} [ \d]\d \d\d:"
)


class Joiner:
    """Gives whole lines for the pieces that a terminal made of them."""

    def __init__(self) -> None:
        self._width = 0
        self._lines = 0
        self._held: list[str] = []

    def add(self, text: str) -> Iterator[str]:
        """The lines that are whole now that one more line has come."""
        held, length = self._held, len(text)
        if held and (_BEGINS.match(text) or holds_core(text) or not text.strip() or len(held) >= MAX_JOINED):
            yield "".join(held)
            held.clear()
        if length > self._width:
            self._width, self._lines = length, 0
        is_full = length == self._width
        self._lines += is_full
        if is_full and self._lines >= LEAST_LINES and LEAST_WIDTH <= length <= MOST_WIDTH:
            held.append(text)
            return
        if held:
            yield "".join((*held, text))
            held.clear()
            return
        yield text

    def end(self) -> Iterator[str]:
        """What is left when nothing more comes."""
        if self._held:
            yield "".join(self._held)
            self._held.clear()
