"""The report as one HTML file that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from nexus_orch.sweep.report.plots import Plot
from nexus_orch.sweep.report.story import SweepStory
from nexus_orch.sweep.report.table import make_header, make_row, rank_points
from nexus_orch.sweep.types import Finish
from nexus_orch.view.words import render_duration, render_rate

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.pick { border-left: 4px solid #d1495b; background: #f7f9fb; padding: .8rem 1rem; margin: 1rem 0; }
.pick b { font-size: 1.3rem; } code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(29rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; } figcaption { color: #55606e; font-size: 13px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e6eaf0; }
th:last-child, td:last-child { text-align: left; white-space: normal; min-width: 18rem; }
tr.pick td { background: #fbeef0; font-weight: 600; } tr.decided td, tr.open td { color: #6b7685; }
.muted { color: #55606e; }
"""
"""Contrast of the greys on white is at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""


def render_page(title: str, story: SweepStory, plots: Sequence[Plot], facts: Sequence[tuple[str, str]]) -> str:
    """The whole page; `facts` are name and value of what the reader should know of machine and engine."""
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            *_head(story, facts),
            *_pick(story),
            '<h2>Pictures</h2><div class="plots">',
            *(_figure(plot) for plot in plots),
            "</div>",
            *_table(story),
            *_notes(story),
            "</body></html>\n",
        )
    )


def _head(story: SweepStory, facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    decision = story.decision
    done = "" if story.is_over else " The sweep is not over."
    yield (
        f'<p class="muted">{len(story.points):,} points, {decision.launches} engine starts '
        f"({decision.failed_launches} failed), {html.escape(render_duration(60 * decision.minutes))}.{done}</p>"
    )
    if facts:
        told = " · ".join(f"{html.escape(name)}: {html.escape(value)}" for name, value in facts)
        yield f'<p class="muted">{told}</p>'


def _pick(story: SweepStory) -> Iterator[str]:
    point, pick, step = story.pick, story.decision.pick, story.decision.step
    if point is None or pick is None:
        reason = step.reason if isinstance(step, Finish) else "the sweep goes on"
        yield f'<div class="pick">No pick: {html.escape(reason)}</div>'
        return
    settings = " ".join(f"{key}={value}" for key, value in point.settings.items())
    bound = pick.failure_bound
    soaked = f"; soaked with {pick.soaked_requests:,} requests" if pick.soaked_requests else ""
    soaked += f", fewer than {100 * bound:.2g} % fail with 95 % confidence" if bound is not None else ""
    kind = "stable" if pick.is_stable else "not confirmed as stable"
    reason = step.reason if isinstance(step, Finish) else pick.reason
    yield (
        f'<div class="pick"><b>{html.escape(render_rate(pick.tokens_per_second))} tokens/s</b>, '
        f"{story.goal.concurrency} requests at once, {kind}<br><code>{html.escape(settings)}</code><br>"
        f'<span class="muted">{html.escape(reason)}{html.escape(soaked)}</span></div>'
    )


def _figure(plot: Plot) -> str:
    label = html.escape(f"{plot.title}: {plot.caption}", quote=True)
    svg = plot.svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    title, caption = html.escape(plot.title), html.escape(plot.caption)
    return f"<figure>{svg}<figcaption><strong>{title}.</strong> {caption}</figcaption></figure>"


def _table(story: SweepStory) -> Iterator[str]:
    yield '<h2>Points</h2><div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{html.escape(name)}</th>" for name in make_header(story))
    yield "</tr></thead><tbody>"
    for point in rank_points(story):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in make_row(point, story))
        yield f'<tr class="{point.state}">{cells}</tr>'
    yield "</tbody></table></div>"


def _notes(story: SweepStory) -> Iterator[str]:
    if story.decision.notes:
        yield "<h2>What the search found about its own means</h2><ul>"
        yield "".join(f"<li>{html.escape(note)}</li>" for note in story.decision.notes)
        yield "</ul>"
