"""The plots of a sweep's report as SVG, each a picture that stands for itself, drawn by matplotlib (extra `report`)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.sweep.report.story import PointStory, SweepStory
from nexus_orch.types import GIB

WIDTH, HEIGHT = 7.0, 3.8
"""Inches, at 72 SVG points each."""
COLOURS = {
    "pick": "#d1495b",
    "measured": "#30638e",
    "unstable": "#edae49",
    "failed": "#8d99ae",
    "decided": "#cdd5df",
    "open": "#e6eaf0",
}
KIND_COLOURS = ("#30638e", "#66a182", "#edae49", "#d1495b", "#8d99ae", "#e6eaf0")
OFFLOAD = ("memory.cpu_offload_gib", "memory.kv_offload_gib")
CONTEXT, REQUESTS = "model.max_model_len", "serve.max_num_seqs"


@dataclass(frozen=True)
class MemoryBar:
    """The memory of the fullest card of one launch, in bytes by kind, as its plan has it."""

    point: int
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class Plot:
    """One picture with its caption, which says in words what is seen."""

    title: str
    caption: str
    svg: str


def draw_plots(story: SweepStory, memory: Sequence[MemoryBar] = ()) -> tuple[Plot, ...]:
    """The plots for which the sweep has data. Raises ConfigError where matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only a report with pictures needs it
    except ImportError:
        remedy = 'pip install "nexus_orch[report]", or --format md'
        problem = Problem("the pictures of the report need matplotlib", "--format", "html", remedy=remedy)
        raise ConfigError(problem) from None

    # Text stays text (searchable, small), and the same story gives the same bytes.
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "nexus",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6eaf0",
        "axes.axisbelow": True,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        found = (
            _launches(story),
            _predicted(story),
            _frontier(story),
            *(_against_offload(story, key) for key in OFFLOAD),
            _memory(memory),
        )
    return tuple(plot for plot in found if plot is not None)


def _draw(draw: Callable[[Any], None], title: str, caption: str) -> Plot:
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure.add_subplot())
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return Plot(title, caption, text[text.index("<svg") :])


def _measured(story: SweepStory) -> list[PointStory]:
    return [point for point in story.points if point.tokens_per_second is not None]


def _launches(story: SweepStory) -> Plot | None:
    """The launches in their order, and the best speed so far."""
    if not story.launches:
        return None
    good = [(x.number, x.tokens_per_second) for x in story.launches if x.tokens_per_second is not None]
    bad = [x.number for x in story.launches if x.tokens_per_second is None]
    confirming = [(x.number, x.tokens_per_second) for x in story.launches if x.is_confirming and x.tokens_per_second]

    def draw(axes: Any) -> None:
        best, steps = 0.0, []
        for number, speed in good:
            best = max(best, speed)
            steps.append((number, best))
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color="#cdd5df", label="best so far")
            axes.scatter(*zip(*good, strict=True), color=COLOURS["measured"], zorder=3, label="measured")
        if confirming:
            axes.scatter(*zip(*confirming, strict=True), color=COLOURS["pick"], zorder=4, label="confirming")
        if bad:
            axes.scatter(bad, [0.0] * len(bad), marker="x", color=COLOURS["failed"], label="no speed", clip_on=False)
        axes.set_xlabel("engine start")
        axes.set_ylabel(f"tokens/s, {story.goal.concurrency} at once")
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="lower right")

    failed = f", {len(bad)} without a speed" if bad else ""
    return _draw(draw, "Launches in their order", f"{len(story.launches)} engine starts{failed}.")


def _predicted(story: SweepStory) -> Plot | None:
    """The plan's speeds against the measured ones."""
    pairs = [(x.planned_tokens_per_second, x) for x in _measured(story) if x.planned_tokens_per_second]
    if len(pairs) < 2:
        return None
    lowest = min(min(planned, x.tokens_per_second or planned) for planned, x in pairs)
    highest = max(max(planned, x.tokens_per_second or planned) for planned, x in pairs)

    def draw(axes: Any) -> None:
        axes.plot([lowest, highest], [lowest, highest], color="#cdd5df", label="as planned")
        colours = [COLOURS[x.state] for _, x in pairs]
        axes.scatter([planned for planned, _ in pairs], [x.tokens_per_second for _, x in pairs], c=colours, zorder=3)
        axes.set_xlabel("planned tokens/s")
        axes.set_ylabel("measured tokens/s")
        axes.legend(loc="upper left")

    return _draw(draw, "Planned and measured speed", f"{len(pairs)} points; the pick is red.")


def _frontier(story: SweepStory) -> Plot | None:
    """Context against the requests that are served at once: what can be had together."""
    points = [x for x in story.points if x.settings.get(CONTEXT) and x.settings.get(REQUESTS)]
    if len({x.settings[CONTEXT] for x in points}) < 2:
        return None

    def draw(axes: Any) -> None:
        for state in ("decided", "open", "failed", "unstable", "measured", "pick"):
            chosen = [x for x in points if x.state == state]
            if chosen:
                speeds = [x.tokens_per_second or 0.0 for x in chosen]
                most = max((x.tokens_per_second or 0.0 for x in points), default=0.0) or 1.0
                axes.scatter(
                    [x.settings[REQUESTS] for x in chosen],
                    [x.settings[CONTEXT] for x in chosen],
                    s=[20 + 120 * speed / most for speed in speeds],
                    color=COLOURS[state],
                    label=state,
                    alpha=0.85,
                )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel(REQUESTS)
        axes.set_ylabel(f"{CONTEXT} (tokens)")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _draw(draw, "Context against requests at once", "A larger dot was faster; pale ones were not launched.")


def _against_offload(story: SweepStory, key: str) -> Plot | None:
    """Speed against what was kept in host RAM."""
    points = [x for x in _measured(story) if x.settings.get(key) is not None]
    if len({x.settings[key] for x in points}) < 2:
        return None

    def draw(axes: Any) -> None:
        axes.scatter(
            [x.settings[key] for x in points], [x.tokens_per_second for x in points], color="#30638e", zorder=3
        )
        planned = [(x.settings[key], x.planned_tokens_per_second) for x in points if x.planned_tokens_per_second]
        if planned:
            axes.scatter(*zip(*planned, strict=True), facecolors="none", edgecolors="#8d99ae", label="planned")
            axes.legend()
        axes.set_xticks(sorted({x.settings[key] for x in points}))
        axes.set_xlabel(key)
        axes.set_ylabel(f"tokens/s, {story.goal.concurrency} at once")
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])

    return _draw(draw, f"Speed against {key}", f"{len(points)} measured points; hollow ones are the plan's.")


def _memory(memory: Sequence[MemoryBar]) -> Plot | None:
    """The memory of the fullest card by kind."""
    if not memory:
        return None
    kinds = list(dict.fromkeys(kind for bar in memory for kind in bar.kinds))
    labels = [f"point {bar.point}" for bar in memory]

    def draw(axes: Any) -> None:
        left = [0.0] * len(memory)
        for kind, colour in zip(kinds, KIND_COLOURS * len(kinds), strict=False):
            sizes = [bar.kinds.get(kind, 0) / GIB for bar in memory]
            axes.barh(labels, sizes, left=left, color=colour, label=kind)
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("GiB of the fullest card")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _draw(draw, "Memory of the fullest card", "By kind, as each launched point was planned.")
