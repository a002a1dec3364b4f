"""Which lines of a flood need no reading, because lines of the same shape have told nothing.

A log of a server that has run for days holds millions of lines of a few shapes: the same words with other figures.
Whether a line can tell anything is decided from its text alone, never from what was read before, and digits count as
alike only where no pattern looks at them.
"""

from __future__ import annotations

from functools import cache

from nexus_orch.judge.log.important import is_important
from nexus_orch.judge.log.lines import LogRecord, is_quoted
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.signatures import tells_by_itself

_DIGITS = str.maketrans("123456789", "000000000")
_DIGIT_BYTES = bytes.maketrans(b"123456789", b"000000000")
"""Bytes are translated some ten times faster than text."""
READ_OF_SHAPE = 50
"""So many lines of one shape are read before others are skipped: a hang is told by how often one line comes."""
READ_OF_SOURCE = 500
"""So many different lines of one place in the engine's sources are read before its others are skipped."""
READ_UNIMPORTANT = 20_000
"""So many lines are read of all; later ones are skipped when they hold no word that any pattern looks for."""
MAX_SHAPES = 20_000


class Skimmer:
    """Remembers the shapes and the sources that have told nothing."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, int] = {}
        self._sources: dict[bytes, int] = {}
        self._lines = 0
        self._last = ""
        self._same = 0

    def skips(self, text: str) -> bool:
        """True when a line needs no reading."""
        if text == self._last:
            self._same += 1
            return self._same >= READ_OF_SHAPE
        self._last, self._same = text, 0
        shape = text.encode(errors="replace").translate(_DIGIT_BYTES)
        seen = self._shapes.get(shape)
        if seen is not None:
            if seen >= READ_OF_SHAPE:
                return True
            self._shapes[shape] = seen + 1
            return False
        self._lines += 1
        source = _find_source(shape)
        if source is not None:
            return self._sources.get(source, 0) >= READ_OF_SOURCE
        return self._lines > READ_UNIMPORTANT and "    " not in text[:200] and not is_important(text)

    def note(self, text: str, record: LogRecord) -> None:
        """A line was read: does its shape, or its source, tell nothing?"""
        shape = text.encode(errors="replace").translate(_DIGIT_BYTES)
        is_idle = tells_nothing(record)
        if is_idle and shape not in self._shapes and len(self._shapes) < MAX_SHAPES and len(text) < 1_000:
            self._shapes[shape] = 1
        source = _find_source(shape)
        if source is not None:
            seen = self._sources.get(source, 0)
            self._sources[source] = seen + 1 if is_idle and seen >= 0 else -1_000_000_000


def tells_nothing(record: LogRecord) -> bool:
    """True when no line with these words tells anything, whatever its figures and whenever it comes."""
    message = record.message
    if is_quoted(record):
        return True
    if record.is_code or _is_marker(message) or (not record.is_routine and "Traceback" in message):
        return False
    if record.is_access:
        return record.level != "ERROR" and '" 4' not in message and '" 5' not in message
    shape = message.translate(_DIGITS)
    if any(literal in shape for literal in (_routine_literals() if record.is_routine else _literals())):
        return False
    return record.is_routine or not tells_by_itself(record)


def _find_source(shape: bytes) -> bytes | None:
    """The place in the engine's sources that wrote an INFO or DEBUG line, with its process; None for other lines."""
    end = shape.find(b"] ", 0, 160)
    if end < 0 or (b"INFO 0" not in shape[:end] and b"DEBUG 0" not in shape[:end]):
        return None
    return shape[:end]


def _is_marker(message: str) -> bool:
    markers = shipped_patterns().markers
    patterns = (markers.server_up, markers.told_to_stop, markers.new_start)
    return any(pattern.match(message) is not None for pattern in patterns)


@cache
def _routine_literals() -> tuple[str, ...]:
    table = shipped_patterns()
    pairs = (*table.measurements_by_literal, *table.stages_by_literal, *table.routine_by_literal)
    texts = (*(literal for literal, _ in pairs), "non-default args", "Namespace(", "exited", "version", "%|", "% Comp")
    return tuple(dict.fromkeys(text.translate(_DIGITS) for text in texts))


@cache
def _literals() -> tuple[str, ...]:
    signatures = (literal.translate(_DIGITS) for literal, _ in shipped_patterns().signatures_by_literal)
    return tuple(dict.fromkeys((*_routine_literals(), *signatures)))
