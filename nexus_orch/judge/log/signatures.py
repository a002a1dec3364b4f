"""Evidence of a failure in the lines of a log, and the cause that it shows.

The specific stands before the general and the general before a symptom; among equals the first that was seen counts,
because what follows is its consequence: the cause stands above "Engine core initialization failed". An exception that
no signature knows is kept beside them. After the engine was told to stop, dying processes are no failure, and once the
server is up what its own process says of a request is not the engine's. Memory is bounded: a few of each are kept.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nexus_orch.judge.log.evidence import (
    MAX_ALIKE,
    MAX_ERRORS,
    MAX_EVIDENCE_CHARACTERS,
    MAX_MATCHES,
    MAX_TRACES,
    SYMPTOM,
    Evidence,
    Match,
    shorten,
)
from nexus_orch.judge.log.lines import LogRecord
from nexus_orch.judge.log.patterns import Patterns, Signature, shipped_patterns
from nexus_orch.judge.log.remedies import fill_remedy
from nexus_orch.judge.log.statements import begin_statement, end_statement, follow_statement
from nexus_orch.judge.log.tracebacks import (
    TRACEBACK,
    Trace,
    add_frame,
    close_trace,
    is_exception,
    is_marker,
    open_trace,
    tells_draft,
)
from nexus_orch.types import Cause, Stage

RETRACTED_LINES = 30
"""A signal to the process group kills the engine core before the server says that it was told to stop: releases up to
0.19 then print "Engine core proc ... died unexpectedly" some lines too early."""

# Says that something failed, and that the reason stands elsewhere.
_HOLLOW = (
    "ee root cause above",
    "ee stack trace",
    "SystemExit",
    "failed to start.",
    "encountered a fatal error",
    "hit an exception",
    "output_handler failed",
    "Executor failed",
    "RuntimeError: cancelled",
    "EngineDeadError",
    "CancelledError",
    "The above exception was",
    "During handling of the above",
    "NoneType: None",
)
# What a compiler, a linker, a loader or a library says without an exception.
_TELLING = re.compile(
    r"\bfatal error:|^nvcc fatal|^ptxas fatal|^FAILED: |: error: |^[Ee]rror: |^ERROR: |\bFailed: |collect2: error"
    r"|cannot open shared object|undefined (?:symbol|reference)|symbol lookup error|NCCL WARN|: command not found"
    r"|[Pp]ermission denied|terminate called after|^ *what\(\):|Fatal Python error|Segmentation fault|core dumped"
    r"|[Nn]o space left on device|^panic: |\b[Aa]bort(?:ed)? was called|!!!+ Segfault|marked dead"
    r"|is terminated unexpectedly|^Aborted|CUDA error|HIP error|Xid |^\w+ [Ee]rror: |\b[A-Z]\w+(?:Error|Exception): \S"
    r"|^Fatal \w+ error|\[Errno \d+\]|Error response from daemon"
)

_DIGITS = re.compile(r"\d+")
_DRAFT_LOADS = ("Loading drafter model", "Loading draft model")
# What Python and its libraries warn of is no failure, however it reads.
_WARNING = re.compile(r"\b[A-Z]?\w*Warning: |^\[notice\]|^WARNING\b|\bWARNING: |^(?:ERROR: )?pip's ")

# Once the server is up these end the engine whoever says so; all else may be a request's.
_FATAL: frozenset[Cause] = frozenset(
    {
        "runtime_oom",
        "host_oom",
        "gpu_fault",
        "cards_lost",
        "engine_dead",
        "nccl_error",
        "worker_died",
        "port_in_use",
        "illegal_instruction",
    }
)
_ENGINE_PROCESS = re.compile(r"EngineCore|Engine|Worker|VllmWorker|RayWorker|ray::|raylet")
_ENGINE_MODULE = re.compile(
    r"(?:^|/)(?:core|engine|client|multiproc_executor|multiproc_worker_utils|worker\w*|gpu_worker|gpu_model_runner"
    r"|model_runner|async_llm|async_llm_engine|llm_engine|ray_\w+|dump_input|mp_distributed_executor|executor_base)\.py$"
)


def add_evidence(evidence: Evidence, record: LogRecord, stage: Stage, *, is_up: bool) -> Evidence:
    """Add what one line shows. `stage` and `is_up` tell when it came: an allocator's message names no purpose."""
    trace = _trace_of(evidence, record)
    evidence = replace(evidence, line=evidence.line + 1)
    if record.is_code and (trace.in_code or record.message.startswith("  File ")):
        ended = end_statement(evidence.statements, record.process or "")
        return _set_trace(replace(evidence, statements=ended), record, add_frame(trace, record))
    message = record.message
    if not message.strip() or is_marker(message):
        return evidence
    evidence = replace(evidence, last_lines=(*evidence.last_lines, record.text)[-MAX_ERRORS:])
    markers = shipped_patterns().markers
    if markers.told_to_stop.match(message):
        return _stop(evidence, by_signal=markers.told_by_signal.match(message) is not None)
    return _add_message(evidence, record, stage, is_up=is_up)


def _add_message(evidence: Evidence, record: LogRecord, stage: Stage, *, is_up: bool) -> Evidence:
    table = shipped_patterns()
    message = record.message
    if TRACEBACK in message:
        evidence = _set_trace(evidence, record, open_trace())
        if message.startswith(TRACEBACK):
            return evidence
    is_aftermath = evidence.told_to_stop and not evidence.matches
    if is_aftermath or table.markers.not_evidence.match(message):
        return evidence
    moment = _tell_moment(_trace_of(evidence, record), stage, is_up=is_up)
    judged = _judge_message(_note_draft(evidence, message), record, moment, table, is_up=is_up)
    if _count_shown(judged) != _count_shown(evidence):
        return replace(judged, statements=begin_statement(judged.statements, record, shorten(record.text)))
    if not judged.statements.open:
        return judged
    return replace(judged, statements=follow_statement(judged.statements, record))


def _count_shown(evidence: Evidence) -> tuple[int, ...]:
    return (len(evidence.matches), len(evidence.hints), len(evidence.errors), len(evidence.telling))


def _note_draft(evidence: Evidence, message: str) -> Evidence:
    """A draft model is loaded behind the served one, and the figures of both are told at the end."""
    if not evidence.is_drafting:
        return replace(evidence, is_drafting=True) if message.startswith(_DRAFT_LOADS) else evidence
    return replace(evidence, is_drafting=False) if message.startswith("Model loading took") else evidence


def _tell_moment(trace: Trace, stage: Stage, *, is_up: bool) -> str:
    """Where in a start a line belongs: the frames of its traceback know best."""
    if trace.stage is not None:
        return trace.stage.value
    return "ready" if is_up else stage.value


def tells_by_itself(record: LogRecord) -> bool:
    """True for an exception, an error and what says that something failed, known or not."""
    message = record.message.strip()
    is_told = record.level in ("ERROR", "CRITICAL") or _TELLING.search(message) is not None
    return is_told or is_exception(Trace(is_open=True, lines=1), message)


def _judge_message(evidence: Evidence, record: LogRecord, moment: str, table: Patterns, *, is_up: bool) -> Evidence:
    trace = _trace_of(evidence, record)
    found = _find_match(evidence, record, trace, moment, table)
    is_end = is_exception(trace, record.message)
    if is_end and trace.in_code:
        evidence = _set_trace(evidence, record, close_trace(trace))
    if found is None:
        return evidence if record.is_routine else _note(evidence, record, is_exception=is_end, is_up=is_up)
    signature, match = found
    if signature.is_hint:
        return replace(evidence, hints=_keep(evidence.hints, match))
    if is_up and match.cause not in _FATAL and not _is_of_engine(record):
        return _add_request(evidence, record, is_exception=is_end)
    return replace(evidence, matches=_keep(evidence.matches, match))


def _find_match(
    evidence: Evidence, record: LogRecord, trace: Trace, moment: str, table: Patterns
) -> tuple[Signature, Match] | None:
    message = record.message
    found: tuple[Signature, Match] | None = None
    is_quiet = record.is_routine or _WARNING.search(message) is not None
    for literal, signature in table.routine_by_literal if is_quiet else table.signatures_by_literal:
        if literal not in message or (found is not None and signature.rank >= found[0].rank):
            continue
        values = _parse_values(signature, message, trace)
        if values is not None and moment not in signature.not_at:
            cause = signature.by_stage.get(moment, signature.cause)
            remedy = table.remedy(cause) if signature.remedy is None else fill_remedy(signature.remedy, values)
            match = Match(
                cause,
                signature.rank,
                shorten(record.text),
                remedy,
                evidence.line,
                signature.name,
                _DIGITS.sub("#", message.strip())[:MAX_EVIDENCE_CHARACTERS],
                is_draft=evidence.is_drafting or trace.is_draft or tells_draft(message),
            )
            if signature.by_stage and moment == Stage.STARTING:
                ready = signature.by_stage.get("ready", signature.cause)
                match = replace(match, served=replace(match, cause=ready, remedy=table.remedy(ready)))
            found = signature, match
    return found


def _parse_values(signature: Signature, message: str, trace: Trace) -> dict[str, str] | None:
    """The named groups of a signature whose literal the message contains; None when it does not match after all."""
    if signature.context and not trace.contexts.intersection(signature.context):
        return None
    if signature.file is not None and not signature.file.search(trace.file):
        return None
    if signature.pattern is None:
        return {}
    found = signature.pattern.search(message)
    return None if found is None else {name: text or "" for name, text in found.groupdict().items()}


def _keep(matches: tuple[Match, ...], found: Match) -> tuple[Match, ...]:
    """The first matches of each signature, the most telling `MAX_MATCHES` of them."""
    alike = [match for match in matches if match.name == found.name and match.cause == found.cause]
    if len(alike) == MAX_ALIKE or any(match.said == found.said for match in alike):
        return matches
    kept = sorted((*matches, found), key=lambda match: (match.rank, match.line))
    return tuple(kept[:MAX_MATCHES])


def _stop(evidence: Evidence, *, by_signal: bool) -> Evidence:
    if not by_signal:
        return replace(evidence, told_to_stop=True)
    kept = tuple(
        match
        for match in evidence.matches
        if match.rank < SYMPTOM or match.line < evidence.line - RETRACTED_LINES or evidence.told_to_stop
    )
    return replace(evidence, told_to_stop=True, matches=kept)


def _note(evidence: Evidence, record: LogRecord, *, is_exception: bool, is_up: bool) -> Evidence:
    """Keep an exception or another telling line that no signature knows, for the case that nothing better comes."""
    message = record.message.strip()
    if any(hollow in message for hollow in _HOLLOW) or _WARNING.search(message):
        return evidence
    is_told = record.level in ("ERROR", "CRITICAL") or _TELLING.search(message) is not None
    if not is_exception and not is_told:
        return evidence
    if is_up and not _is_of_engine(record):
        return _add_request(evidence, record, is_exception=is_exception)
    return _keep_unknown(evidence, record, is_exception=is_exception)


def _keep_unknown(evidence: Evidence, record: LogRecord, *, is_exception: bool) -> Evidence:
    """Keep the line if it is among the first of its kind, and says what none of them said."""
    message = record.message.strip()
    known = evidence.errors if is_exception else evidence.telling
    if len(known) == MAX_ERRORS or any(message in text for text in known):
        return evidence
    kept = (*known, shorten(record.text))
    if not is_exception:
        return replace(evidence, telling=kept)
    if known:
        return replace(evidence, errors=kept)
    is_draft = evidence.is_drafting or _trace_of(evidence, record).is_draft or tells_draft(message)
    return replace(evidence, errors=kept, error_line=evidence.line, is_draft_error=is_draft)


def _add_request(evidence: Evidence, record: LogRecord, *, is_exception: bool) -> Evidence:
    """Exceptions stand before the lines that only say that there was one."""
    known = evidence.requests
    if len(known) == MAX_ERRORS or any(record.message.strip() in text for text in known):
        return evidence
    if not is_exception:
        return replace(evidence, requests=(*known, shorten(record.text)))
    count = evidence.request_exceptions
    kept = (*known[:count], shorten(record.text), *known[count:])
    return replace(evidence, requests=kept, request_exceptions=count + 1)


def _is_of_engine(record: LogRecord) -> bool:
    """True for what a process or a module of the engine says, False for the server in front of it."""
    if record.process is not None and _ENGINE_PROCESS.match(record.process):
        return True
    return record.module is not None and _ENGINE_MODULE.search(record.module) is not None


def _trace_of(evidence: Evidence, record: LogRecord) -> Trace:
    return evidence.traces.get(record.process or "", Trace())


def _set_trace(evidence: Evidence, record: LogRecord, trace: Trace) -> Evidence:
    kept = evidence.traces if len(evidence.traces) < MAX_TRACES else {}
    return replace(evidence, traces={**kept, record.process or "": trace})
