"""The bus as it was measured, as a table."""

from __future__ import annotations

from nexus_orch.judge.bus import BusMeasurement
from nexus_orch.view.words import NOTHING, render_columns, render_markdown_table

HEADER = ("GPU", "card", "copy, GB/s", "read in place, GB/s")


def render_bus(measurement: BusMeasurement, *, markdown: bool = False) -> str:
    """One line for each card, and what the processors read of RAM."""
    rows = [
        (str(card.index), card.card, _render(card.copy_bytes_per_second), _render(card.read_bytes_per_second))
        for card in measurement.cards
    ]
    render = render_markdown_table if markdown else render_columns
    ram = f"\nRAM: {_render(measurement.ram_bytes_per_second)} GB/s, read by all processors together\n"
    return render(HEADER, rows, range(2, 4)) + ram


def _render(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate / 1e9:.1f}"
