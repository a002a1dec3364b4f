"""A line that comes again and again while nothing else is said: what a start that hangs writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nexus_orch.judge.log.evidence import shorten
from nexus_orch.judge.log.lines import LogRecord

REMEMBERED_LINES = 64
STALLED_SECONDS = 180
"""How long one line must have repeated to count as a hang: vLLM's own complaints about waiting come every minute."""
STALLED_TIMES = 6
"""How often it must have come where the lines carry no time."""

_NUMBER = re.compile(r"\d+")
_CLOCK = re.compile(r"(?:\d\d-)?(?P<day>\d\d)[T ](?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)")
_COMPARED_CHARACTERS = 160
_CLOCK_CHARACTERS = 120


@dataclass(frozen=True)
class Repeat:
    """One line that has repeated. `seconds` is the time from its first to its last coming, None without clocks."""

    text: str
    count: int = 1
    first: int | None = None
    last: int | None = None

    @property
    def seconds(self) -> int | None:
        """The time from the first to the last coming; None where it is not known."""
        if self.first is None or self.last is None:
            return None
        return self.last - self.first if self.last >= self.first else self.last - self.first + 31 * 86400

    @property
    def is_stall(self) -> bool:
        """True when it repeated long enough for a hang."""
        if self.count < 3:
            return False
        return self.count >= STALLED_TIMES if self.seconds is None else self.seconds >= STALLED_SECONDS


@dataclass(frozen=True)
class Repeats:
    """The lines that have come again since a line last said something new."""

    known: tuple[str, ...] = ()
    again: Mapping[str, Repeat] = field(default_factory=dict)

    @property
    def longest(self) -> Repeat | None:
        """The line that came most often; None when none has come twice."""
        return max(self.again.values(), key=lambda repeat: repeat.count, default=None)


def note_repeat(repeats: Repeats, record: LogRecord) -> Repeats:
    """After one more line of the log."""
    shape = _NUMBER.sub("#", record.message[: 2 * _COMPARED_CHARACTERS])[:_COMPARED_CHARACTERS].strip()
    if not shape:
        return repeats
    clock = _parse_clock(record.text)
    if shape not in repeats.known:
        known = (*repeats.known, shape)[-REMEMBERED_LINES:]
        return Repeats(known, {shape: Repeat(shorten(record.text), 1, clock, clock)})
    before = repeats.again.get(shape)
    if before is None:
        return Repeats(repeats.known, {**repeats.again, shape: Repeat(shorten(record.text), 1, clock, clock)})
    return Repeats(repeats.known, {**repeats.again, shape: Repeat(before.text, before.count + 1, before.first, clock)})


def _parse_clock(text: str) -> int | None:
    found = _CLOCK.search(text, 0, _CLOCK_CHARACTERS)
    if found is None:
        return None
    return ((int(found["day"]) * 24 + int(found["h"])) * 60 + int(found["m"])) * 60 + int(found["s"])
