"""Measurements of a server as a table: one row for each load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TextIO

from nexus_orch.view.words import NOTHING, render_columns, render_count, render_rate

HEADER = ("at once", "in", "out", "tokens/s", "first token", "p95", "between tokens", "p95", "failed", "")
RIGHT_COLUMNS = tuple(range(len(HEADER) - 1))


class _Load(Protocol):
    @property
    def concurrency(self) -> int: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...


class _Figures(Protocol):
    @property
    def client(self) -> str: ...
    @property
    def tokens_per_second(self) -> float: ...
    @property
    def requests(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def first_token_seconds(self) -> float | None: ...
    @property
    def first_token_p95_seconds(self) -> float | None: ...
    @property
    def inter_token_seconds(self) -> float | None: ...
    @property
    def inter_token_p95_seconds(self) -> float | None: ...
    @property
    def error(self) -> str: ...


class BenchRow(Protocol):
    """What the table needs of a measurement (see `nexus_orch.sweep.measure.types.BenchResult`)."""

    @property
    def load(self) -> _Load: ...
    @property
    def figures(self) -> _Figures: ...
    @property
    def spoilt(self) -> Sequence[str]: ...
    @property
    def notes(self) -> Sequence[str]: ...


def print_bench(taken: Sequence[BenchRow], stream: TextIO) -> None:
    """The table, then who measured, and what the reader should know."""
    stream.write(render_columns(HEADER, [_make_row(measured) for measured in taken], RIGHT_COLUMNS))
    clients = dict.fromkeys(measured.figures.client for measured in taken)
    stream.write(f"\nmeasured by {' and '.join(clients)}; medians, and the value that 95 % stay below\n")
    for line in dict.fromkeys(_remarks(taken)):
        stream.write(f"- {line}\n")


def _make_row(measured: BenchRow) -> tuple[str, ...]:
    load, figures = measured.load, measured.figures
    return (
        str(load.concurrency),
        render_count(load.input_tokens),
        render_count(load.output_tokens),
        render_rate(figures.tokens_per_second),
        *(_render_time(seconds) for seconds in (figures.first_token_seconds, figures.first_token_p95_seconds)),
        *(_render_time(seconds) for seconds in (figures.inter_token_seconds, figures.inter_token_p95_seconds)),
        f"{figures.failed} of {figures.requests}",
        "spoilt" if measured.spoilt else "",
    )


def _remarks(taken: Sequence[BenchRow]) -> Iterator[str]:
    for measured in taken:
        if measured.figures.error:
            yield f"the first failure: {measured.figures.error}"
        yield from measured.spoilt
        yield from measured.notes


def _render_time(seconds: float | None) -> str:
    """A short time as people compare them: in milliseconds below a second."""
    if seconds is None:
        return NOTHING
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
