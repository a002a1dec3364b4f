"""The bus as it was measured, as a table."""

from __future__ import annotations

from nexus_orch.judge.learned.bus import BusMeasurement, CardBus
from nexus_orch.view.words import NOTHING, render_columns, render_markdown_table

HEADER = ("GPU", "card", "copy, GB/s", "read in place, GB/s")


def render_bus(measurement: BusMeasurement, *, markdown: bool = False) -> str:
    """One line for each card, with what the layers of the run's model reach, and what the processors read of RAM."""
    tokens = next((_tokens(card) for card in measurement.cards if card.layer), ())
    header = (*HEADER, *(f"its layers, {_count(count)}" for count in tokens))
    rows = [
        (
            str(card.index),
            card.card,
            _render(card.copy_bytes_per_second),
            _render(card.read_bytes_per_second),
            *(_render(dict(card.layer.rates).get(count)) if card.layer else NOTHING for count in tokens),
        )
        for card in measurement.cards
    ]
    render = render_markdown_table if markdown else render_columns
    ram = f"\nRAM: {_render(measurement.ram_bytes_per_second)} GB/s, read by all processors together\n"
    return render(header, rows, range(2, len(header))) + ram


def _tokens(card: CardBus) -> tuple[int, ...]:
    return tuple(count for count, _ in card.layer.rates) if card.layer else ()


def _count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens:,} tokens"


def _render(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate / 1e9:.1f}"
