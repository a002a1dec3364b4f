"""The judgement of a whole log of which nothing else is known: no exit code, no probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus_orch.judge.log.measured import Measured
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.start.offload import judge_offload
from nexus_orch.types import Cause


@dataclass(frozen=True)
class Diagnosis:
    """`cause` is None when the log shows no failure; `remedy` then says in one sentence what it does show."""

    cause: Cause | None
    evidence: tuple[str, ...]
    remedy: str
    engine_version: str | None
    measured: dict[str, Any]


def judge_log(reading: LogReading) -> Diagnosis:
    """Name the cause of the failure that a log shows."""
    cause, evidence, remedy = _judge(reading)
    measured = reading.measured.as_dict()
    version = measured.pop("engine_version", None)
    return Diagnosis(cause, evidence, remedy, version, measured)


def _judge(reading: LogReading) -> tuple[Cause | None, tuple[str, ...], str]:
    ignored = judge_offload(reading)
    if ignored is not None:
        return ignored.cause, ignored.evidence, ignored.remedy
    best = reading.evidence.best
    if best is not None:
        return best.cause, reading.evidence.lines(), best.remedy
    if reading.is_up or reading.evidence.told_to_stop:
        return None, (), _render_good_end(reading)
    if reading.evidence.errors:
        return "unknown", reading.evidence.lines(), shipped_patterns().remedy("unknown")
    if reading.measured == Measured() and not reading.starting.detail:
        return "unknown", reading.evidence.lines(), "no line of this log was written by vLLM: is it the right file?"
    silence = "a process that was killed leaves no word here, the kernel's log (dmesg) may tell"
    return None, (), f"no failure in this log: it ends while {_render_stage(reading)}; {silence}"


def _render_good_end(reading: LogReading) -> str:
    if not reading.is_up:
        return f"nothing to mend: the start was told to stop while {_render_stage(reading)}"
    ending = "was shut down as it was told to" if reading.evidence.told_to_stop else "had not ended"
    return f"nothing to mend: the server came up and {ending}"


def _render_stage(reading: LogReading) -> str:
    return reading.starting.detail or str(reading.starting.stage)
