"""A crash loop of thousands of starts: the first and the last are read in full, those between them are counted.

Reading a start costs far more than finding where the next one begins, so the lines of starts are only kept until it is
known that they are not among the last. A start that came up, or that goes on for long, is no part of a loop.
"""

from __future__ import annotations

from collections import deque

from nexus_orch.judge.log.lines import parse_line
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.wrappers import Unwrapper

FIRST_STARTS = 20
"""So many starts are read in full before others are only counted."""
LAST_STARTS = 5
"""So many of those that end the log are read in full."""
MOST_LINES = 20_000
"""A start of more lines is no part of a crash loop."""
_UP = ("Application startup complete", "Uvicorn running on")


class LoopCounter:
    """Holds back the lines of a crash loop. What it gives out is to be read; `count` starts were not."""

    def __init__(self) -> None:
        self.count = 0
        self._service = ""
        self._banner = ""
        self._held: deque[list[str]] = deque()
        self._current: list[str] = []

    @property
    def is_on(self) -> bool:
        """True while lines are held back."""
        return bool(self._banner)

    def begin(self, text: str, service: str) -> bool:
        """Hold back lines from this one on, when it is a banner with which a start of the service begins."""
        self._banner, self._service = find_banner(text) or "", service
        if self._banner:
            self._current = [text]
        return self.is_on

    def add(self, text: str) -> list[str]:
        """Take one more line; the lines to read now, which are none as long as the loop goes on."""
        if "version" in text and find_banner(text) == self._banner:
            self._close()
        self._current.append(text)
        is_up = any(word in text for word in _UP)
        if is_up or len(self._current) > MOST_LINES or self._service not in text[:200]:
            return self.end()
        return []

    def end(self) -> list[str]:
        """The lines of the last starts; nothing is held back any more."""
        lines = [line for start in self._held for line in start] + self._current
        self._held.clear()
        self._current, self._banner = [], ""
        return lines

    def _close(self) -> None:
        self._held.append(self._current)
        self._current = []
        if len(self._held) > LAST_STARTS:
            self._held.popleft()
            self.count += 1


def find_banner(text: str) -> str | None:
    """What a banner in a line of a log tells of its start: its kind and the process, without figures."""
    if "version" not in text:
        return None
    record = parse_line(next(Unwrapper().unwrap(text)).text)
    if not shipped_patterns().markers.new_start.match(record.message):
        return None
    kind = "api" if "API server version" in record.message else "picture"
    return f"{kind} {(record.process or '').split(' pid=')[0]}"
