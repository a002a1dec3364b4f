"""The points of a sweep on disk: one JSON line each, appended as they end, so that a killed sweep keeps what it had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nexus_orch.files import append_line, read_lines, tell_write_errors, write_atomic

POINTS_FILE = "points.jsonl"
SUMMARY_FILE = "summary.json"

SWEEP_QUESTION = "Write a short story about a lighthouse keeper."
"""Asked at each point of a sweep that has no question of its own, so that the points' speeds can be compared."""

Outcome = Literal["served", "does_not_fit", "bad_config", "failed", "interrupted"]


@dataclass(frozen=True)
class Point:
    """One point of a sweep. `overrides` are the point's own; `run_id` is None when nothing was launched.

    `measured` holds the run's measurements by name (tokens_per_second, kv_cache_tokens ...), `predicted` the plan's.
    """

    number: int
    overrides: tuple[str, ...]
    outcome: Outcome
    exit_code: int
    seconds: float
    run_id: str | None = None
    cause: str | None = None
    message: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)


def append_point(sweep_dir: Path, point: Point) -> None:
    """Add a point. Raises InterruptedByEnvironment when the disk takes no more."""
    path = sweep_dir / POINTS_FILE
    with tell_write_errors(path):
        append_line(path, asdict(point))


def read_points(sweep_dir: Path) -> tuple[Point, ...]:
    """The points in the order of their numbers; a torn last line is left out. Empty when there are none."""
    points = read_lines(sweep_dir / POINTS_FILE, _parse_point).items
    return tuple(sorted(points, key=lambda point: point.number))


def write_summary(sweep_dir: Path, points: tuple[Point, ...]) -> Path:
    """Write summary.json, the sweep as one machine-readable file, and return its path.

    Raises InterruptedByEnvironment when the disk takes no more.
    """
    path = sweep_dir / SUMMARY_FILE
    with tell_write_errors(path):
        write_atomic(path, json.dumps({"points": [asdict(point) for point in points]}, indent=1) + "\n")
    return path


def _parse_point(data: Any) -> Point:
    """Raises ValueError for what is no point."""
    try:
        return Point(**{**data, "overrides": tuple(data["overrides"])})
    except (KeyError, TypeError):
        raise ValueError("this is no point of a sweep") from None
