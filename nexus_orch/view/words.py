"""Numbers as people read them, and columns of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch.types import GIB, KIB, MIB

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
NOTHING = "-"


def render_bytes(count: float | None) -> str:
    """Bytes in the unit that leaves at least one before the point, GiB at most ("730 MiB", "21.4 GiB")."""
    if count is None:
        return NOTHING
    if abs(count) >= GIB:
        return f"{count / GIB:.1f} GiB"
    if abs(count) >= MIB or not count:
        return f"{count / MIB:.0f} MiB"
    return f"{count / KIB:.0f} KiB" if abs(count) >= KIB else f"{count:.0f} B"


def render_duration(seconds: float | None) -> str:
    """A duration in its two largest units ("0.4 s", "38 s", "2 min 05 s", "3 h 20 min", "6 d 01 h")."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"


def render_count(value: float | None) -> str:
    """A whole number with thousands separated ("23,552")."""
    return NOTHING if value is None else f"{value:,.0f}"


def render_rate(value: float | None) -> str:
    """A rate with as many digits as matter ("4.1", "577")."""
    if value is None:
        return NOTHING
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def render_gigabytes_per_second(value: float) -> str:
    """A rate of bytes, in the unit that disks and buses are sold in (1e9 bytes per second)."""
    return f"{value / 1e9:.2f} GB/s"


def render_fraction(value: float | None) -> str:
    """A fraction of 1 as a percentage."""
    return NOTHING if value is None else f"{value:.0%}"


def render_columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table of plain text without lines; the columns whose numbers are in `right` are set to the right."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "".join("  ".join(_pad(row, widths, right)).rstrip() + "\n" for row in cells)


def render_markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table that is readable as plain text too."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * (width - 1) + (":" if column in right else "-") for column, width in enumerate(widths)]
    return "".join(f"| {' | '.join(_pad(row, widths, right))} |\n" for row in [cells[0], rule, *cells[1:]])


def _pad(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    return [
        text.rjust(width) if column in right else text.ljust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
