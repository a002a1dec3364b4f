"""What a log has shown so far: matches of signatures, unknown exceptions, other telling lines. Memory is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nexus_orch.judge.log.patterns import TIERS
from nexus_orch.judge.log.statements import Statements
from nexus_orch.judge.log.tracebacks import Trace
from nexus_orch.types import Cause

MAX_MATCHES = 10
MAX_ALIKE = 3
"""So many lines of one signature are kept, when they say different things (of two paths, say)."""
MAX_ERRORS = 4
MAX_TRACES = 64
MAX_EVIDENCE_CHARACTERS = 600
SYMPTOM = TIERS.index("symptom")


@dataclass(frozen=True)
class Match:
    """One line that shows a cause; `line` is the number of lines that were read until it."""

    cause: Cause
    rank: int
    """Index into `TIERS`: smaller is more telling."""
    text: str
    remedy: str
    line: int
    name: str = ""
    """The signature's."""
    said: str = ""
    """The message without its figures: what tells two lines of one signature apart."""
    is_draft: bool = False
    """True when the draft model of speculative decoding failed, not the served one."""
    served: Match | None = None
    """What the line means if the server turns out to have been up: an excerpt may begin long after a start."""


@dataclass(frozen=True)
class Evidence:
    """What a log has shown so far."""

    matches: tuple[Match, ...] = ()
    """The most telling one first."""
    hints: tuple[Match, ...] = ()
    """Lines that tell more of a failure, and are none by themselves."""
    errors: tuple[str, ...] = ()
    """The first exceptions that no signature knows."""
    error_line: int = 0
    """The line of the first of them."""
    is_draft_error: bool = False
    """True when the first of them came from the draft model of speculative decoding."""
    telling: tuple[str, ...] = ()
    """The first other lines that say that something failed."""
    outlived: tuple[str, ...] = ()
    """What looked like a failure before the server came up all the same."""
    requests: tuple[str, ...] = ()
    """What the server said of requests while it was up."""
    request_exceptions: int = 0
    """The number of exceptions among those lines; they stand first."""
    last_lines: tuple[str, ...] = ()
    """The last lines of any kind."""
    told_to_stop: bool = False
    traces: Mapping[str, Trace] = field(default_factory=dict)
    """The traceback that each process is writing."""
    statements: Statements = field(default_factory=Statements)
    is_drafting: bool = False
    """True while the draft model of speculative decoding is loaded."""
    line: int = 0

    @property
    def best(self) -> Match | None:
        """The most telling match, the first of its kind; None when nothing points to a failure."""
        return self.matches[0] if self.matches else None

    @property
    def is_empty(self) -> bool:
        """True while nothing has shown a failure."""
        return not (self.matches or self.errors or self.telling)


def outlive(evidence: Evidence) -> Evidence:
    """The evidence once the server has come up: what was seen before did not keep it from that."""
    said = (*(match.text for match in evidence.matches), *evidence.errors)
    return replace(evidence, matches=(), hints=(), errors=(), telling=(), outlived=said[:MAX_ERRORS])


def shorten(text: str) -> str:
    """A line as it is shown: at most `MAX_EVIDENCE_CHARACTERS`, the cut made visible."""
    clean = text.strip()
    if len(clean) <= MAX_EVIDENCE_CHARACTERS:
        return clean
    return clean[: MAX_EVIDENCE_CHARACTERS - 4] + " ..."
