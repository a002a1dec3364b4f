"""Interpreters that stand in for an engine's Python: real processes that answer as the probe does, or do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

COPY = 54_200_000_000.0
READ = 51_000_000_000.0
RAM = 200_000_000_000.0

ANSWER = json.dumps(
    {
        "card": "NVIDIA H200",
        "copy_bytes_per_second": COPY,
        "read_bytes_per_second": {"1": READ, "16": READ, "256": READ},
        "ram_bytes_per_second": RAM,
    }
)
LAYER_RATES = {"1": 45_000_000_000.0, "16": 48_000_000_000.0, "2048": 5_000_000_000.0}
LAYER_ANSWER = json.dumps({**json.loads(ANSWER), "layer_bytes_per_second": LAYER_RATES})


def write_python(folder: Path, body: str) -> str:
    """An executable that does `body`, whatever script it is told to run; its path."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable} -S\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def write_measuring(folder: Path) -> str:
    """One that has rates for a layer when it is given one."""
    return write_python(folder, f"import sys\nprint({LAYER_ANSWER!r} if len(sys.argv) > 2 else {ANSWER!r})")


def write_answering(folder: Path, answer: str = ANSWER) -> str:
    """One that prints such an answer."""
    return write_python(folder, f"print({answer!r})")
