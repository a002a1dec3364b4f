"""Plan and measurement side by side, for every view and the report."""

from __future__ import annotations

from collections.abc import Iterable

from nexus_orch.judge.start.proof import Comparison
from nexus_orch.view.words import NOTHING, render_bytes, render_columns, render_count, render_rate

HEADER = ("", "planned", "measured", "error")
NUMBER_COLUMNS = (1, 2, 3)


def make_rows(comparisons: Iterable[Comparison]) -> list[tuple[str, str, str, str]]:
    """Name, planned, measured and how far the measurement is from the plan."""
    return [
        (
            line.name,
            render_amount(line.planned, line.unit),
            render_amount(line.measured, line.unit),
            NOTHING if line.difference is None else f"{line.difference:+.1%}",
        )
        for line in comparisons
    ]


def render_proof(comparisons: Iterable[Comparison]) -> list[str]:
    """A table of plain text, by lines; only what was both planned and measured, which is what a proof is about."""
    both = [line for line in comparisons if line.difference is not None]
    return render_columns(HEADER, make_rows(both), right=NUMBER_COLUMNS).splitlines() if both else []


def render_amount(value: float | None, unit: str) -> str:
    """A quantity with its unit."""
    if value is None:
        return NOTHING
    if unit == "bytes":
        return render_bytes(value)
    return f"{render_count(value) if unit == 'tokens' else render_rate(value)} {unit}"
