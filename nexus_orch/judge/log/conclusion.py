"""From evidence to a cause: a reason before a symptom, an unknown exception before a symptom, hints beside their cause.

Where nothing but a symptom is left ("Engine core initialization failed. See root cause above"), the reason stood above
what was read: then the cause is `unknown`, and the remedy tells how to get the whole log.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.judge.log.evidence import SYMPTOM, Evidence, Match, shorten
from nexus_orch.judge.log.patterns import TIERS, shipped_patterns
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.log.remedies import render_remedy
from nexus_orch.types import Cause

MAX_LINES = 12
REASON_ABOVE = (
    "the reason stood above these lines and is not in this log: get the whole log, from the first line of the start "
    "(docker logs without --tail, kubectl logs --previous, journalctl without -n), and diagnose that"
)
CUT = (
    "the log ends in the middle of a traceback: the exception, which tells the reason, is not in it; get the whole "
    "log, to its last line, and diagnose that"
)
_POINTS_ABOVE = frozenset({"core_died", "engine_dead", "worker_failed", "start_timeout", "server_ends"})
"""Signatures of symptoms that only say that something failed before."""
_KILLED = frozenset({"host_oom_worker", "host_oom_core", "host_oom_shell", "container_killed"})
"""Signatures of symptoms that show signal 9. An exception before it is the reason; what comes behind follows from it,
as far as it is of `_AFTERMATH`."""
_AFTERMATH: frozenset[Cause] = frozenset({"nccl_error", "worker_died", "engine_dead", "startup_stalled"})
DRAFT = (
    "the draft model of speculative decoding failed, not the served model: start without it (take the options of "
    "speculative decoding out of serve.extra_args), or name a draft that was made for this model and that this release "
    "knows; of the draft: "
)
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
    killed = _find_kill(evidence, reason)
    if killed is not None:
        return _make(reading, killed.cause, (killed.text,), killed.remedy)
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
        remedy = shipped_patterns().remedy("unknown")
        return _make(reading, "unknown", (), remedy, is_draft=evidence.is_draft_error)
    return _conclude_cut(reading) if symptom is None else _conclude_symptom(reading, symptom, is_whole=is_whole)


def show_lines(reading: LogReading) -> tuple[str, ...]:
    """The lines to show of a log: those of its conclusion, else what says that something failed, else its end."""
    found = conclude(reading)
    evidence = reading.evidence
    if found is not None and found.lines:
        return found.lines
    return (*evidence.errors, *evidence.telling) or tuple(shorten(line) for line in evidence.last_lines)


def _find_kill(evidence: Evidence, reason: Match | None) -> Match | None:
    """The line that shows signal 9, when nothing that came before it is the reason for the end."""
    killed = next((match for match in evidence.matches if match.name in _KILLED), None)
    if killed is None or (evidence.errors and evidence.error_line < killed.line):
        return None
    follows = reason is None or (reason.line > killed.line and reason.cause in _AFTERMATH)
    return killed if follows else None


def _conclude_reason(reading: LogReading, reason: Match) -> Conclusion:
    """A hint of the same cause tells more than the exception: its line comes first, and its remedy holds."""
    hint = next((hint for hint in reading.evidence.hints if hint.cause == reason.cause), None)
    first, remedy = ((reason.text,), reason.remedy) if hint is None else ((hint.text, reason.text), hint.remedy)
    return _make(reading, reason.cause, first, remedy, is_draft=reason.is_draft)


def _conclude_symptom(reading: LogReading, symptom: Match, *, is_whole: bool) -> Conclusion:
    if symptom.name not in _POINTS_ABOVE or reading.is_up:
        return _make(reading, symptom.cause, (symptom.text,), symptom.remedy)
    was_up = any(match.name in _TELLS_SERVING for match in reading.evidence.matches)
    cause: Cause = "engine_dead" if was_up else "unknown"
    return _make(reading, cause, (), shipped_patterns().remedy(cause) if is_whole else REASON_ABOVE)


def _conclude_cut(reading: LogReading) -> Conclusion | None:
    """A start whose log ends before the exception has failed, too."""
    places = [trace.place for trace in reading.evidence.traces.values() if trace.is_cut]
    if reading.evidence.told_to_stop or not places:
        return None
    return Conclusion("unknown", (shorten(places[0]),), CUT)


def _make(
    reading: LogReading, cause: Cause, first: tuple[str, ...], remedy: str, *, is_draft: bool = False
) -> Conclusion:
    """Reasons, then what no signature knows, then symptoms; each with its further lines, each said once."""
    evidence = reading.evidence
    reasons = tuple(match.text for match in evidence.matches if match.rank < SYMPTOM)
    symptoms = tuple(match.text for match in evidence.matches if match.rank == SYMPTOM)
    hints = tuple(hint.text for hint in evidence.hints)
    heads = (*first, *reasons, *evidence.errors, *evidence.telling, *hints, *symptoms)
    lines = [line for head in heads for line in evidence.statements.with_further(head)]
    told = f"{DRAFT}{remedy}" if is_draft else remedy
    return Conclusion(cause, _drop_told(lines)[:MAX_LINES], render_remedy(told, reading.measured.engine_version))


def _drop_told(lines: list[str]) -> tuple[str, ...]:
    """The lines without those whose words stand in one before: the first line of a statement, without its prefix."""
    kept: list[str] = []
    for line in lines:
        if not any(line in before for before in kept):
            kept.append(line)
    return tuple(kept)
