"""The results of many searches as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_orch.view.words import render_columns

HEADER = (
    *("world", "who", "sweeps", "median", "worst tenth", "within 5 %"),
    *("failed", "false stable", "starts", "minutes"),
)


def render_results(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A line for each world and each way to search. Quality is the pick's true speed over the true best."""
    lines = [line for world, found in results.items() for line in _world_lines(world, found)]
    return render_columns(HEADER, lines, right=range(2, len(HEADER)))


def _world_lines(world: str, found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows = [("ours", list(found))]
    for name in found[0].get("others", {}):
        for limit in found[0]["others"][name]:
            rows.append((f"{name}, {limit.replace('_', ' ')}", [one["others"][name][limit] for one in found]))
    return [(world, who, *summarize(results)) for who, results in rows]


def summarize(results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    qualities = [float(one["quality"]) for one in results]
    within = sum(quality >= 0.95 for quality in qualities)
    return (
        str(len(results)),
        f"{statistics.median(qualities):.1%}",
        f"{worst_tenth(qualities):.1%}",
        f"{within / len(results):.0%}",
        f"{statistics.median(one['failed_starts'] for one in results):g}",
        str(sum(one["false_stable"] for one in results)),
        f"{statistics.mean(one['starts'] for one in results):.1f}",
        f"{statistics.mean(one['minutes'] for one in results):.0f}",
    )


def worst_tenth(qualities: Sequence[float]) -> float:
    """The quality that nine of ten searches reach."""
    return sorted(qualities)[max(0, int(len(qualities) * 0.1) - (len(qualities) % 10 == 0))] if qualities else 0.0
