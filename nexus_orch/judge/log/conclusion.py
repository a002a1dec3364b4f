"""From evidence to a cause: a reason before a symptom, an unknown exception before a symptom, hints beside their cause.

Where nothing but a symptom is left ("Engine core initialization failed. See root cause above"), the reason stood above
what was read: then the cause is `unknown`, and the remedy tells how to get the whole log.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.judge.log.patterns import TIERS, shipped_patterns
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.log.remedies import render_remedy
from nexus_orch.judge.log.signatures import SYMPTOM, Match, shorten
from nexus_orch.types import Cause

MAX_LINES = 8
REASON_ABOVE = (
    "the reason stood above these lines and is not in this log: get the whole log, from the first line of the start "
    "(docker logs without --tail, kubectl logs --previous, journalctl without -n), and diagnose that"
)
_POINTS_ABOVE = frozenset({"core_died", "engine_dead", "worker_failed", "start_timeout"})
"""Signatures of symptoms that only say that something failed before."""
_GENERAL = TIERS.index("general")
"""Hints of this tier name a cause where nothing but a symptom is seen; those of a family only stand by their cause."""

_TELLS_SERVING = frozenset({"server_ends"})
"""Signatures of symptoms that only a server shows that was up."""


@dataclass(frozen=True)
class Conclusion:
    """The cause that a log shows, the lines that show it, the most telling one first, and what to do."""

    cause: Cause
    lines: tuple[str, ...]
    remedy: str


def conclude(reading: LogReading, *, is_whole: bool = False) -> Conclusion | None:
    """What the log shows; None when it shows no failure. `is_whole` is true when nothing of the start is missing."""
    evidence = reading.evidence
    reason = next((match for match in evidence.matches if match.rank < SYMPTOM), None)
    if reason is not None:
        if reason.served is not None and any(match.name in _TELLS_SERVING for match in evidence.matches):
            reason = reason.served
        return _conclude_reason(reading, reason)
    symptom = evidence.best
    if reading.is_up and symptom is None:
        return None
    hint = next((hint for hint in evidence.hints if hint.rank <= _GENERAL), None)
    if hint is not None and not evidence.errors and (symptom is not None or evidence.telling):
        return _make(reading, hint.cause, (hint.text,), hint.remedy)
    if evidence.errors or evidence.telling:
        return _make(reading, "unknown", (*evidence.errors, *evidence.telling), shipped_patterns().remedy("unknown"))
    return None if symptom is None else _conclude_symptom(reading, symptom, is_whole=is_whole)


def show_lines(reading: LogReading) -> tuple[str, ...]:
    """The lines to show of a log: those of its conclusion, else what says that something failed, else its end."""
    found = conclude(reading)
    evidence = reading.evidence
    if found is not None and found.lines:
        return found.lines
    return (*evidence.errors, *evidence.telling) or tuple(shorten(line) for line in evidence.last_lines)


def _conclude_reason(reading: LogReading, reason: Match) -> Conclusion:
    """A hint of the same cause tells more than the exception: its line comes first, and its remedy holds."""
    hint = next((hint for hint in reading.evidence.hints if hint.cause == reason.cause), None)
    if hint is None:
        others = tuple(match.text for match in reading.evidence.hints)
        return _make(reading, reason.cause, (reason.text,), reason.remedy, others)
    return _make(reading, reason.cause, (hint.text, reason.text), hint.remedy)


def _conclude_symptom(reading: LogReading, symptom: Match, *, is_whole: bool) -> Conclusion:
    if symptom.name in _POINTS_ABOVE and not reading.is_up:
        return _make(reading, "unknown", (), shipped_patterns().remedy("unknown") if is_whole else REASON_ABOVE)
    return _make(reading, symptom.cause, (symptom.text,), symptom.remedy)


def _make(
    reading: LogReading, cause: Cause, first: tuple[str, ...], remedy: str, others: tuple[str, ...] = ()
) -> Conclusion:
    rest = tuple(match.text for match in reading.evidence.matches)
    lines = tuple(dict.fromkeys((*first, *rest, *others)))[:MAX_LINES]
    return Conclusion(cause, lines, render_remedy(remedy, reading.measured.engine_version))
