"""The judgement of a whole log of which nothing else is known: no exit code, no probes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nexus_orch.judge.log.conclusion import Conclusion, conclude
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.log.remedies import render_remedy
from nexus_orch.judge.log.starts import History, LoggedStart, Service
from nexus_orch.judge.start.offload import judge_offload
from nexus_orch.judge.start.requests import render_outlived, render_requests
from nexus_orch.judge.start.story import SHARED_CARD, tell_others, tell_starts
from nexus_orch.types import Cause


@dataclass(frozen=True)
class Diagnosis:
    """`cause` is None when the log shows no failure; `remedy` then says in one sentence what it does show."""

    cause: Cause | None
    evidence: tuple[str, ...]
    remedy: str
    engine_version: str | None
    measured: dict[str, Any]


@dataclass(frozen=True)
class _Judged:
    """What one service's log shows: the start that was judged, and its place among all of that service."""

    service: Service
    index: int
    start: LoggedStart
    found: Conclusion | None

    @property
    def weight(self) -> tuple[bool, bool, bool]:
        """What sorts the services: vLLM's own before others, failures before others, known causes before unknown."""
        is_known = self.found is not None and self.found.cause != "unknown"
        return (not self.service.is_vllm, self.found is None, not is_known)


def judge_log(reading: LogReading) -> Diagnosis:
    """Name the cause of the failure that the log of one start shows."""
    return _make(reading, conclude_start(reading), "", _render_silence(reading))


def judge_history(history: History) -> Diagnosis:
    """Name the cause of the failure that a log of any number of services and starts shows."""
    judged = sorted((_judge_service(service) for service in history.services.values()), key=lambda one: one.weight)
    if not judged:
        return judge_log(LogReading())
    first, *others = judged
    found = first.found
    running = [one.service.name for one in others if one.found is None and one.start.reading.is_up]
    if found is not None and running and found.cause in SHARED_CARD:
        found = replace(found, remedy=SHARED_CARD[found.cause].format(other=" and ".join(running)))
    failed = [(one.service.name, one.found.cause) for one in others if one.found is not None and one.service.is_vllm]
    earlier = [conclude_start(start.reading) for start in first.service.ended]
    story = tell_starts(first.service, first.index, found, earlier) + tell_others(first.service.name, failed, running)
    return _make(first.start.reading, found, story, _render_silence(first.start.reading, story=bool(story)))


def conclude_start(reading: LogReading) -> Conclusion | None:
    """What the log of one start shows; None when it shows no failure."""
    ignored = judge_offload(reading)
    if ignored is not None:
        return Conclusion(ignored.cause, ignored.evidence, ignored.remedy)
    found = conclude(reading)
    if found is not None or reading.is_up or reading.evidence.told_to_stop:
        return found
    return _conclude_wait(reading)


def _conclude_wait(reading: LogReading) -> Conclusion | None:
    """A start whose log ends with one line that came again and again hangs."""
    repeat = reading.repeats.longest
    if repeat is None or not repeat.is_stall:
        return None
    minutes = "" if repeat.seconds is None else f" over {repeat.seconds / 60:.0f} minutes"
    told = f"this line came {repeat.count} times{minutes}, and nothing else: {repeat.text}"
    table = shipped_patterns()
    wait = next((one for text, one in table.signatures_by_literal if one.is_wait and text in repeat.text), None)
    cause: Cause = "startup_stalled" if wait is None else wait.cause
    remedy = table.remedy(cause) if wait is None or wait.remedy is None else wait.remedy
    hints = tuple(hint.text for hint in reading.evidence.hints if hint.cause == cause)
    return Conclusion(cause, (told, *hints), render_remedy(remedy, reading.measured.engine_version))


def _judge_service(service: Service) -> _Judged:
    """Judge a service by its last start; by the last that failed when the last one had not ended."""
    index = len(service.ended)
    found = conclude_start(service.last.reading)
    if found is not None or service.last.reading.is_up or service.last.reading.evidence.told_to_stop:
        return _Judged(service, index, service.last, found)
    for earlier in reversed(range(len(service.ended))):
        start = service.ended[earlier]
        found = conclude_start(start.reading)
        if found is not None:
            return _Judged(service, earlier, start, found)
    return _Judged(service, index, service.last, None)


def _make(reading: LogReading, found: Conclusion | None, story: str, silence: str) -> Diagnosis:
    measured = reading.measured.as_dict()
    version = measured.pop("engine_version", None)
    if found is not None:
        return Diagnosis(found.cause, found.lines, found.remedy + story, version, measured)
    if _is_foreign(reading):
        lines = reading.evidence.last_lines
        return Diagnosis("unknown", lines, "vLLM's own lines are not in this log: is it the right file?", None, {})
    held = reading.evidence
    evidence = (*held.outlived, *held.requests, *held.errors, *held.telling) if reading.is_up else ()
    return Diagnosis(None, evidence, silence + story, version, measured)


def _is_foreign(reading: LogReading) -> bool:
    """True when nothing in the log is vLLM's, and none of its last lines names it."""
    if any("vllm" in line.lower() for line in (*reading.evidence.last_lines, *reading.evidence.telling)):
        return False
    return not reading.is_vllm and not reading.is_up and not reading.starting.detail and not reading.measured.as_dict()


def _render_silence(reading: LogReading, *, story: bool = False) -> str:
    """What a log shows that shows no failure."""
    if reading.is_up:
        return _render_up(reading, story=story)
    if reading.evidence.told_to_stop:
        return f"the start was told to stop while {_render_stage(reading)}"
    return (
        f"the log ends while {_render_stage(reading)}, and shows no failure until there: the start may still be under "
        "way; if the process is gone, the kernel's log (dmesg) may say why"
    )


def _render_up(reading: LogReading, *, story: bool) -> str:
    ending = "was shut down as it was told to" if reading.evidence.told_to_stop else "had not ended"
    told = render_outlived(reading.evidence.outlived) + render_requests(reading.evidence.requests)
    if reading.evidence.errors or reading.evidence.telling:
        told += "; while it served its engine wrote errors, the last lines of evidence, and went on"
    head = "" if told or story else "nothing to mend: "
    return f"{head}the server came up and {ending}{told}"


def _render_stage(reading: LogReading) -> str:
    return reading.starting.detail or str(reading.starting.stage)
