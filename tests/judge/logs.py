"""The real logs, and short ways to read lines."""

from __future__ import annotations

from pathlib import Path

from nexus_orch.judge.log.reading import LogReading, follow_starts

LOGS = Path(__file__).parent.parent / "data" / "logs"


def lines_of(name: str) -> list[str]:
    """The lines of a real log, as a session would get them."""
    return (LOGS / f"vllm-{name}.log").read_text(encoding="utf-8").split("\n")


def read(*lines: str) -> LogReading:
    """The reading of a log that consists of these lines."""
    reading = LogReading()
    for line in lines:
        reading = follow_starts(reading, line)
    return reading
