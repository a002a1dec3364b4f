"""A log read so far: stage, numbers and evidence, line by line."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus_orch.judge.log.lines import parse_line
from nexus_orch.judge.log.measured import Measured, measure
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.signatures import Evidence, add_evidence, shorten
from nexus_orch.judge.log.stages import advance
from nexus_orch.types import Starting


@dataclass(frozen=True)
class LogReading:
    """What the lines of one start have told. `is_up` only says that the HTTP server listens, not that it can answer."""

    starting: Starting = field(default_factory=Starting)
    measured: Measured = field(default_factory=Measured)
    evidence: Evidence = field(default_factory=Evidence)
    is_up: bool = False
    offload_lines: tuple[str, ...] = ()
    """The lines that asked for an offload and that say what was loaded: shown when nothing was offloaded."""

    @property
    def is_over(self) -> bool:
        """True when this start has come to an end that a further start in the same log may follow."""
        return self.is_up or bool(self.evidence.matches) or bool(self.evidence.errors) or self.evidence.told_to_stop


def follow(reading: LogReading, text: str) -> LogReading:
    """The reading after one more line of one start."""
    markers = shipped_patterns().markers
    record = parse_line(text)
    if reading.is_up and record.is_access and not markers.told_to_stop.match(record.message):
        return reading
    measured = reading.measured if record.is_access else measure(reading.measured, record)
    starting = reading.starting
    if not reading.is_up:
        starting = advance(starting, record, eager=measured.enforce_eager is True)
    is_up = reading.is_up or markers.server_up.match(record.message) is not None
    evidence = add_evidence(reading.evidence, record, starting.stage, is_up=is_up)
    offload_lines = reading.offload_lines
    if measured is not reading.measured and _tells_of_offload(reading.measured, measured):
        offload_lines = (*offload_lines, shorten(record.text))
    return LogReading(starting, measured, evidence, is_up, offload_lines)


def follow_starts(reading: LogReading, text: str) -> LogReading:
    """The reading after one more line of a log that may hold several starts: the last one counts."""
    markers = shipped_patterns().markers
    if reading.is_over and "version" in text and markers.new_start.match(parse_line(text).message):
        reading = LogReading()
    return follow(reading, text)


def _tells_of_offload(before: Measured, after: Measured) -> bool:
    asked = after.requested_offload_bytes or after.requested_prefetch_group_size
    if not asked:
        return False
    was_asked = before.requested_offload_bytes or before.requested_prefetch_group_size
    return not was_asked or (not before.of_ranks("weights_bytes") and bool(after.of_ranks("weights_bytes")))
