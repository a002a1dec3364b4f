"""The real logs, and short ways to read lines."""

from __future__ import annotations

from pathlib import Path

from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.log.starts import read_history

LOGS = Path(__file__).parent.parent / "data" / "logs"


def lines_of(name: str) -> list[str]:
    """The lines of a real log, as a session would get them."""
    return (LOGS / f"vllm-{name}.log").read_text(encoding="utf-8").split("\n")


def read(*lines: str) -> LogReading:
    """The reading of the last start in a log that consists of these lines."""
    services = list(read_history(lines).services.values())
    return services[-1].last.reading if services else LogReading()
