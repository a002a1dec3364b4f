"""The points of a sweep on disk: one JSON line each, appended as they end, so that a killed sweep keeps what it had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nexus_orch.errors import InterruptedByEnvironment, Problem

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
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        with (sweep_dir / POINTS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(point)) + "\n")
    except OSError as error:
        raise InterruptedByEnvironment(
            Problem(f"cannot write the sweep's points: {error.strerror}", value=sweep_dir, remedy="free disk space")
        ) from None


def read_points(sweep_dir: Path) -> tuple[Point, ...]:
    """The points in the order of their numbers; a torn last line is left out. Empty when there are none."""
    try:
        lines = (sweep_dir / POINTS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    points = [point for point in map(_parse_point, lines) if point is not None]
    return tuple(sorted(points, key=lambda point: point.number))


def write_summary(sweep_dir: Path, points: tuple[Point, ...]) -> Path:
    """Write summary.json, the sweep as one machine-readable file, and return its path."""
    path = sweep_dir / SUMMARY_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"points": [asdict(point) for point in points]}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _parse_point(line: str) -> Point | None:
    try:
        data: dict[str, Any] = json.loads(line)
        return Point(**{**data, "overrides": tuple(data["overrides"])})
    except (ValueError, KeyError, TypeError):
        return None
