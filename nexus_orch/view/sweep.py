"""The points of a sweep as a table: what was asked, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

from nexus_orch.view.words import NOTHING, render_columns, render_count, render_duration, render_rate

HEADER = ("point", "overrides", "result", "KV tokens", "tokens/s", "time", "")
RIGHT_COLUMNS = (0, 3, 4, 5)

_STYLES = {"served": "green", "does_not_fit": "yellow", "failed": "red", "bad_config": "red", "interrupted": "yellow"}


class SweepPoint(Protocol):
    """What the table needs of a point (see `nexus_orch.sweep.points.Point`)."""

    @property
    def number(self) -> int: ...
    @property
    def overrides(self) -> Sequence[str]: ...
    @property
    def outcome(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def message(self) -> str: ...
    @property
    def measured(self) -> Mapping[str, float]: ...


def print_sweep(points: Sequence[SweepPoint], stream: TextIO) -> None:
    """Print the table: with colours and folded to the width on a terminal, as plain columns elsewhere."""
    if not stream.isatty():
        stream.write(render_sweep(points))
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for column, title in enumerate(HEADER):
        table.add_column(title, justify="right" if column in RIGHT_COLUMNS else "left", overflow="fold")
    for point, row in zip(points, make_rows(points), strict=True):
        table.add_row(*row, style=_STYLES.get(point.outcome, ""))
    Console(file=stream, highlight=False).print(table)


def render_sweep(points: Sequence[SweepPoint]) -> str:
    """The table as plain text."""
    return render_columns(HEADER, make_rows(points), RIGHT_COLUMNS)


def make_rows(points: Sequence[SweepPoint]) -> list[tuple[str, ...]]:
    """One row of text for each point; overrides that all points share are left out."""
    shared = set.intersection(*(set(point.overrides) for point in points)) if len(points) > 1 else set()
    return [
        (
            str(point.number),
            " ".join(text for text in point.overrides if text not in shared) or NOTHING,
            _describe_result(point),
            render_count(point.measured.get("kv_cache_tokens")),
            render_rate(point.measured.get("tokens_per_second")),
            render_duration(point.seconds) if point.seconds else NOTHING,
            point.message,
        )
        for point in points
    ]


def _describe_result(point: SweepPoint) -> str:
    result = point.outcome.replace("_", " ")
    return f"{result}: {point.cause}" if point.cause else result
