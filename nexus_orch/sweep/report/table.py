"""The story of a sweep as rows: for a terminal, a Markdown document, a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from nexus_orch.sweep.report.story import PointState, PointStory, SweepStory
from nexus_orch.view.words import NOTHING, render_columns, render_count, render_markdown_table, render_rate

ORDER: tuple[PointState, ...] = ("pick", "measured", "unstable", "failed", "open", "decided")
FIGURES = ("result", "tokens/s", "planned", "first token", "KV tokens", "planned", "starts", "")
CSV_FIGURES = (
    "state",
    "tokens_per_second",
    "planned_tokens_per_second",
    "spread",
    "measurements",
    "first_token_seconds",
    "inter_token_seconds",
    "kv_cache_tokens",
    "planned_kv_cache_tokens",
    "starts",
    "failed_starts",
    "soaked_requests",
    "soaked_failed",
    "memory_slope_bytes_per_hour",
    "reason",
)
SHOWN_DECIDED = 10
"""Points without a launch that are listed for people; a file has all of them."""


def rank_points(story: SweepStory) -> list[PointStory]:
    """The pick first, then what was measured from fast to slow, then the others."""
    return sorted(story.points, key=lambda x: (ORDER.index(x.state), -(x.tokens_per_second or 0.0), x.number))


def render_text(story: SweepStory) -> str:
    """The table as plain text, with what it leaves out."""
    header, rows, right = _make_table(story)
    return render_columns(header, rows, right) + _left_out(story)


def render_markdown(story: SweepStory) -> str:
    header, rows, right = _make_table(story)
    return render_markdown_table(header, rows, right) + _left_out(story)


def render_csv(story: SweepStory) -> str:
    """All points with all figures, in seconds, tokens and bytes; empty where nothing is known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("point", *story.keys, *CSV_FIGURES))
    for point in rank_points(story):
        figures = (getattr(point, name) for name in CSV_FIGURES)
        writer.writerow((point.number, *(point.settings.get(key) for key in story.keys), *figures))
    return out.getvalue()


def _make_table(story: SweepStory) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[int, ...]]:
    header = make_header(story)
    right = (*range(1 + len(story.keys)), *range(2 + len(story.keys), len(header) - 1))
    return header, [make_row(point, story) for point in _shown(story)], right


def make_header(story: SweepStory) -> tuple[str, ...]:
    """The names of the columns; a key without its section where that says enough."""
    short = [key.rpartition(".")[2] for key in story.keys]
    names = [key if short.count(name) > 1 else name for key, name in zip(story.keys, short, strict=True)]
    return ("point", *names, *FIGURES)


def _shown(story: SweepStory) -> Iterator[PointStory]:
    decided = 0
    for point in rank_points(story):
        decided += point.state == "decided"
        if point.state != "decided" or decided <= SHOWN_DECIDED:
            yield point


def _left_out(story: SweepStory) -> str:
    more = sum(point.state == "decided" for point in story.points) - SHOWN_DECIDED
    return f"{more:,} more points were decided without a launch (--format csv lists them)\n" if more > 0 else ""


def make_row(point: PointStory, story: SweepStory) -> tuple[str, ...]:
    """One point as text, in the order of the header."""
    first = point.first_token_seconds
    return (
        str(point.number),
        *(str(point.settings.get(key, NOTHING)) for key in story.keys),
        point.state,
        _rate(point.tokens_per_second) + (f" ±{50 * point.spread:.1f} %" if point.measurements > 1 else ""),
        _rate(point.planned_tokens_per_second),
        NOTHING if first is None else f"{first:.3g} s",
        render_count(point.kv_cache_tokens),
        render_count(point.planned_kv_cache_tokens),
        str(point.starts),
        point.reason,
    )


def _rate(value: float | None) -> str:
    return NOTHING if value is None else render_rate(value)
