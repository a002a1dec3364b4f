"""A log read so far: stage, numbers and evidence, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nexus_orch.judge.log.evidence import Evidence, outlive, shorten
from nexus_orch.judge.log.lines import LogRecord, is_quoted, parse_line
from nexus_orch.judge.log.measured import Measured, measure
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.repeats import Repeats, note_repeat
from nexus_orch.judge.log.signatures import add_evidence
from nexus_orch.judge.log.stages import advance
from nexus_orch.types import Starting


@dataclass(frozen=True)
class LogReading:
    """What the lines of one start have told. `is_up` only says that the HTTP server listens, not that it can answer."""

    starting: Starting = field(default_factory=Starting)
    measured: Measured = field(default_factory=Measured)
    evidence: Evidence = field(default_factory=Evidence)
    is_up: bool = False
    is_vllm: bool = False
    """True when a line had the form of vLLM's own."""
    offload_lines: tuple[str, ...] = ()
    """The lines that asked for an offload and that say what was loaded: shown when nothing was offloaded."""
    repeats: Repeats = field(default_factory=Repeats)
    settings: str = ""
    """The line that told the arguments of the command."""

    @property
    def is_over(self) -> bool:
        """True when this start has come to an end that a further start in the same log may follow."""
        return self.is_up or not self.evidence.is_empty or self.evidence.told_to_stop


def follow(reading: LogReading, text: str, further: Sequence[str] = ()) -> LogReading:
    """The reading after one more line of one start; `further` are patterns of numbers beside those that are known."""
    return follow_record(reading, parse_line(text), further)


def follow_record(reading: LogReading, record: LogRecord, further: Sequence[str] = ()) -> LogReading:
    """The reading after one more line of one start, which has been taken apart."""
    markers = shipped_patterns().markers
    if is_quoted(record):
        return reading
    is_noise = record.is_access and record.level != "ERROR"
    if reading.is_up and is_noise and not markers.told_to_stop.match(record.message):
        return _note_access(reading, record)
    measured = reading.measured if is_noise else measure(reading.measured, record, further)
    starting = reading.starting
    if not reading.is_up:
        starting = advance(starting, record, eager=measured.enforce_eager is True)
    comes_up = not reading.is_up and markers.server_up.match(record.message) is not None
    evidence = outlive(reading.evidence) if comes_up else reading.evidence
    evidence = add_evidence(evidence, record, starting.stage, is_up=reading.is_up or comes_up)
    offload_lines = reading.offload_lines
    if measured is not reading.measured and _tells_of_offload(reading.measured, measured):
        offload_lines = (*offload_lines, shorten(record.text))
    is_settings = not reading.settings and ("non-default args" in record.message or "Namespace(" in record.message)
    return LogReading(
        starting,
        measured,
        evidence,
        reading.is_up or comes_up,
        reading.is_vllm or record.module is not None or record.process is not None,
        offload_lines,
        reading.repeats if reading.is_up else note_repeat(reading.repeats, record),
        record.message if is_settings else reading.settings,
    )


def _note_access(reading: LogReading, record: LogRecord) -> LogReading:
    """A request that the server refused is worth a line; the others are not."""
    if '" 4' not in record.message and '" 5' not in record.message:
        return reading
    requests = reading.evidence.requests
    if requests and "HTTP/1" in requests[-1]:
        return reading
    return replace(reading, evidence=replace(reading.evidence, requests=(*requests, shorten(record.text))))


def _tells_of_offload(before: Measured, after: Measured) -> bool:
    asked = after.requested_offload_bytes or after.requested_prefetch_group_size
    if not asked:
        return False
    was_asked = before.requested_offload_bytes or before.requested_prefetch_group_size
    return not was_asked or (not before.of_ranks("weights_bytes") and bool(after.of_ranks("weights_bytes")))
