"""The memory of each card as a bar to scale, with what each part of it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from nexus_orch.types import GpuEstimate, Plan
from nexus_orch.view.words import render_bytes

_PARTS = (
    ("weights_bytes", "weights", "█", "#", "blue"),
    ("kv_cache_bytes", "KV cache", "▓", "=", "green"),
    ("activation_bytes", "activations", "▒", "+", "yellow"),
    ("cuda_graph_bytes", "CUDA graphs", "░", ":", "magenta"),
    ("static_pool_bytes", "offload buffer", "▚", "%", "cyan"),
    ("non_torch_bytes", "other", "▪", "-", "red"),
)
"""Field, name, glyph, plain glyph and colour of each part of a card, in the order of the bar."""


def render_cards(plan: Plan, width: int, *, ascii_only: bool) -> Iterator[RenderableType]:
    """One bar for each kind of card: equal ones are shown once."""
    groups: dict[GpuEstimate, list[int]] = {}
    for rank, card in enumerate(plan.per_gpu):
        groups.setdefault(card, []).append(rank if card.index is None else card.index)
    is_cpu = plan.loader == "cpu"
    for card, indices in groups.items():
        title = "host RAM" if is_cpu else f"GPU {_range(indices)}"
        yield Text()
        yield _card_title(title, card, len(indices), is_cpu=is_cpu)
        yield Padding(
            _bar(card, width - 4, ascii_only, end="the RAM ends here" if is_cpu else "the card ends here"),
            (0, 0, 0, 2),
            expand=False,
        )
        yield Padding(_legend(card, width - 4, ascii_only, is_cpu=is_cpu), (0, 0, 0, 2), expand=False)


def _range(indices: Sequence[int]) -> str:
    if len(indices) > 2 and list(indices) == list(range(indices[0], indices[-1] + 1)):
        return f"{indices[0]} to {indices[-1]}"
    return " and ".join(map(str, indices))


def _card_title(title: str, card: GpuEstimate, count: int, *, is_cpu: bool) -> Text:
    each = " each" if count > 1 else ""
    text = Text(title, "bold")
    if is_cpu:
        text.append(f"  {render_bytes(card.total_bytes)}, of which {render_bytes(card.budget_bytes)} are available", "")
    else:
        text.append(
            f"  {render_bytes(card.total_bytes)}{each}, the engine may use {render_bytes(card.budget_bytes)}", ""
        )
    missing = -card.headroom_bytes
    if missing > 0:
        text.append(f": {render_bytes(missing)} too much", "bold red")
    return text


def _parts(card: GpuEstimate, ascii_only: bool) -> list[tuple[int, str, str, str]]:
    """Bytes, name, glyph and colour of the parts that are not empty."""
    return [
        (getattr(card, field), name, plain if ascii_only else glyph, colour)
        for field, name, glyph, plain, colour in _PARTS
        if getattr(card, field) > 0
    ]


def _bar(card: GpuEstimate, width: int, ascii_only: bool, end: str) -> Text:
    """The card's memory to scale; what is needed beyond it lengthens the scale, with a mark and `end` where it ends."""
    parts = _parts(card, ascii_only)
    taken = sum(size for size, *_ in parts)
    scale = max(card.total_bytes, taken)
    text, drawn, passed = Text(), 0, 0
    for size, _, glyph, colour in parts:
        passed += size
        cells = round(passed / scale * width) - drawn
        text.append(glyph * cells, colour)
        drawn += cells
    text.append(("." if ascii_only else "·") * (width - drawn), "dim")
    if taken > card.total_bytes:
        column = max(0, round(card.total_bytes / scale * width) - 1)
        text.append("\n")
        if column + 2 + len(end) <= width:
            text.append(" " * column + _mark(ascii_only), "bold red").append(f" {end}", "red")
        else:  # no room behind the mark
            text.append(f"{end} ".rjust(column), "red").append(_mark(ascii_only), "bold red")
    return text


def _mark(ascii_only: bool) -> str:
    return "^" if ascii_only else "▲"


def _legend(card: GpuEstimate, width: int, ascii_only: bool, *, is_cpu: bool) -> Text:
    """What the glyphs mean; an entry is never torn apart at the end of a line."""
    parts = _parts(card, ascii_only)
    entries = [
        (glyph, f" {'processes' if is_cpu and name == 'other' else name} {render_bytes(size)}", colour)
        for size, name, glyph, colour in parts
    ]
    unused = card.total_bytes - sum(size for size, *_ in parts)
    if unused > 0:
        entries.append(("." if ascii_only else "·", f" not used {render_bytes(unused)}", "dim"))
    if card.offloaded_bytes:
        entries.append(("", f"(in host RAM: {render_bytes(card.offloaded_bytes)} of weights)", ""))
    text, column = Text(), 0
    for glyph, words, colour in entries:
        length = len(glyph) + len(words)
        if column and column + 3 + length > width:
            text.append("\n")
            column = 0
        elif column:
            text.append("   ")
            column += 3
        text.append(glyph, colour)
        text.append(words)
        column += length
    return text
