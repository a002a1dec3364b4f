"""Evidence of a failure in the lines of a log, and the cause that it shows.

The specific stands before the general and the general before a symptom; among equals the first that was seen counts,
because what follows is its consequence: the cause stands above "Engine core initialization failed". After the engine
was told to stop, dying processes are no failure. Memory is bounded: a few matches and a few error lines are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nexus_orch.judge.log.lines import LogRecord
from nexus_orch.judge.log.patterns import TIERS, Patterns, Signature, shipped_patterns
from nexus_orch.types import Cause, Stage

MAX_MATCHES = 6
MAX_ERRORS = 4
MAX_EVIDENCE_CHARACTERS = 600
RETRACTED_LINES = 30
"""A signal to the process group kills the engine core before the server says that it was told to stop: releases up to
0.19 then print "Engine core proc ... died unexpectedly" some lines too early."""

# The last line of a traceback: "ValueError: ...", "torch.OutOfMemoryError: ...", "AssertionError".
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Died|Timeout)\b(?::|$)")
_TRACEBACK = "Traceback (most recent call last)"
# Says that something failed, and that the reason stands elsewhere.
_HOLLOW = ("See root cause above", "please check the stack trace above", "See stack trace (above)")


@dataclass(frozen=True)
class Match:
    """One line that shows a cause; `line` is the number of lines that were read until it."""

    cause: Cause
    rank: int
    """Index into `TIERS`: smaller is more telling."""
    text: str
    remedy: str
    line: int


@dataclass(frozen=True)
class Evidence:
    """What a log has shown so far."""

    matches: tuple[Match, ...] = ()
    """The most telling one first."""
    errors: tuple[str, ...] = ()
    """The first exceptions that no signature knows."""
    last_lines: tuple[str, ...] = ()
    """The last lines of any kind."""
    told_to_stop: bool = False
    context: frozenset[str] = frozenset()
    """Contexts of signatures that the present traceback has gone through."""
    line: int = 0

    @property
    def best(self) -> Match | None:
        """The most telling match, the first of its kind; None when nothing points to a failure."""
        return self.matches[0] if self.matches else None

    def lines(self) -> tuple[str, ...]:
        """The lines to show, the most telling one first."""
        if self.matches:
            return tuple(dict.fromkeys(match.text for match in self.matches))
        return self.errors or tuple(shorten(line) for line in self.last_lines)


def add_evidence(evidence: Evidence, record: LogRecord, stage: Stage, *, is_up: bool) -> Evidence:
    """Add what one line shows. `stage` and `is_up` tell when it came: an allocator's message names no purpose."""
    table = shipped_patterns()
    evidence = replace(evidence, line=evidence.line + 1)
    if record.is_code:
        contexts = {context for context in table.contexts if context in record.message}
        return evidence if contexts <= evidence.context else replace(evidence, context=evidence.context | contexts)
    if record.message.strip():
        evidence = replace(evidence, last_lines=(*evidence.last_lines, record.text)[-MAX_ERRORS:])
    if table.markers.told_to_stop.match(record.message):
        return _stop(evidence, by_signal=table.markers.told_by_signal.match(record.message) is not None)
    is_aftermath = evidence.told_to_stop and not evidence.matches
    if record.is_routine or is_aftermath or table.markers.not_evidence.match(record.message):
        return evidence
    return _judge_message(evidence, record, "ready" if is_up else stage.value, table)


def _judge_message(evidence: Evidence, record: LogRecord, moment: str, table: Patterns) -> Evidence:
    if record.message.startswith(_TRACEBACK):
        return replace(evidence, context=frozenset())
    found = _find_match(evidence, record, moment, table)
    return _note(evidence, record) if found is None else replace(evidence, matches=_keep(evidence.matches, found))


def _find_match(evidence: Evidence, record: LogRecord, moment: str, table: Patterns) -> Match | None:
    message = record.message
    found: Match | None = None
    for literal, signature in table.signatures_by_literal:
        if literal not in message or (found is not None and signature.rank >= found.rank):
            continue
        values = _parse_values(signature, message, evidence.context)
        if values is not None:
            cause = signature.by_stage.get(moment, signature.cause)
            remedy = table.remedy(cause) if signature.remedy is None else signature.remedy.format_map(values)
            found = Match(cause, signature.rank, shorten(record.text), remedy, evidence.line)
    return found


def _parse_values(signature: Signature, message: str, context: frozenset[str]) -> dict[str, str] | None:
    """The named groups of a signature whose literal the message contains; None when it does not match after all."""
    if signature.context is not None and signature.context not in context:
        return None
    if signature.pattern is None:
        return {}
    found = signature.pattern.search(message)
    return None if found is None else {name: text or "" for name, text in found.groupdict().items()}


def _keep(matches: tuple[Match, ...], found: Match) -> tuple[Match, ...]:
    """The first match of each cause and tier, the most telling `MAX_MATCHES` of them."""
    if any(match.cause == found.cause and match.rank == found.rank for match in matches):
        return matches
    kept = sorted((*matches, found), key=lambda match: (match.rank, match.line))
    return tuple(kept[:MAX_MATCHES])


def _stop(evidence: Evidence, *, by_signal: bool) -> Evidence:
    if not by_signal:
        return replace(evidence, told_to_stop=True)
    symptom = TIERS.index("symptom")
    kept = tuple(
        match
        for match in evidence.matches
        if match.rank < symptom or match.line < evidence.line - RETRACTED_LINES or evidence.told_to_stop
    )
    return replace(evidence, told_to_stop=True, matches=kept)


def _note(evidence: Evidence, record: LogRecord) -> Evidence:
    """Keep an exception that no signature knows, for the case that nothing better comes."""
    message = record.message.strip()
    if len(evidence.errors) == MAX_ERRORS or not _EXCEPTION.match(message):
        return evidence
    if any(hollow in message for hollow in _HOLLOW) or any(message in error for error in evidence.errors):
        return evidence
    return replace(evidence, errors=(*evidence.errors, shorten(record.text)))


def shorten(text: str) -> str:
    """A line as it is shown: at most `MAX_EVIDENCE_CHARACTERS`, the cut made visible."""
    clean = text.strip()
    if len(clean) <= MAX_EVIDENCE_CHARACTERS:
        return clean
    return clean[: MAX_EVIDENCE_CHARACTERS - 4] + " ..."
