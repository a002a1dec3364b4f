"""The report of a sweep: what it says of each point, in every form, and that the forms agree."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from nexus_orch.sweep.report.page import render_page
from nexus_orch.sweep.report.plots import MemoryBar, draw_plots
from nexus_orch.sweep.report.story import PointStory, make_story
from nexus_orch.sweep.report.table import render_csv, render_markdown, render_text
from nexus_orch.sweep.types import LaunchEnded, Speed
from nexus_orch.types import GIB
from tests.sweep.report.stories import GRID, make_decision, make_task, tell


def _point(number: int) -> PointStory:
    return tell().points[number]


@pytest.mark.parametrize(
    ("number", "state", "reason"),
    [
        (3, "pick", ""),
        (2, "measured", ""),
        (5, "unstable", "died at 24,300 accumulated tokens"),
        (6, "failed", "did not become ready: no_kv_cache_memory"),
        (0, "decided", "at most 560 tokens/s, and point 3 has 705"),
        (7, "decided", "weights do not fit: 3.1 GiB are missing"),
        (1, "open", ""),
    ],
)
def test_each_point_has_its_state_and_why(number: int, state: str, reason: str) -> None:
    assert (_point(number).state, _point(number).reason) == (state, reason)


def test_spoilt_measurements_and_lost_starts_count_nothing() -> None:
    assert (_point(2).tokens_per_second, _point(2).measurements) == (600.0, 1)
    assert _point(3).starts == 2 and _point(3).failed_starts == 0
    assert _point(2).by_load == {4: 200.0, 16: 600.0}


def test_the_median_and_the_spread_of_all_starts() -> None:
    pick = _point(3)
    assert (pick.tokens_per_second, pick.measurements, pick.soaked_requests) == (705.0, 2, 1_240)
    assert pick.spread == pytest.approx(10 / 705)


def test_the_launches_stand_in_their_order_each_with_what_was_measured_in_it() -> None:
    launches = tell().launches
    assert [launch.point for launch in launches] == [2, 6, 5, 3, 3]
    assert [launch.tokens_per_second for launch in launches] == [600.0, None, 720.0, 700.0, 710.0]
    assert [launch.is_confirming for launch in launches] == [False, False, False, False, True]
    assert launches[1].cause == "no_kv_cache_memory"


def test_two_slots_are_kept_apart() -> None:
    happened = (
        LaunchEnded(0, None, 1, 1.0, slot=0),
        LaunchEnded(1, None, 1, 1.0, slot=1),
        Speed(1, 16, 200.0, slot=1),
        Speed(0, 16, 100.0, slot=0),
    )
    story = make_story(make_task(), happened, make_decision(is_over=False))
    assert [launch.tokens_per_second for launch in story.launches] == [100.0, 200.0]


def test_the_file_has_all_points_and_full_figures() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(tell()))))
    assert len(rows) == len(GRID)
    assert rows[0]["point"] == "3" and rows[0]["model.max_model_len"] == "16384"
    assert float(rows[0]["tokens_per_second"]) == 705.0
    assert rows[-1]["tokens_per_second"] == ""


def test_tables_for_people_name_the_pick_first() -> None:
    assert render_text(tell()).splitlines()[1].split()[:5] == ["3", "4", "16384", "64", "pick"]
    assert render_markdown(tell()).splitlines()[2].startswith("|     3 |")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def _render(title: str = "a sweep") -> str:
    memory = [MemoryBar(3, {"weights": 12 * GIB, "KV cache": 6 * GIB})]
    return render_page(title, tell(), draw_plots(tell(), memory), [("engine", "vLLM 0.32.0")])


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    page = _Page()
    page.feed(_render())
    assert "script" not in page.tags and page.tags.count("svg") == 5
    assert [source for source in page.sources if not source.startswith("#")] == []
    assert "<b>705 tokens/s</b>" in _render() and "fewer than 0.24 % fail" in _render()


def test_what_others_wrote_is_text_on_the_page() -> None:
    assert "<script>" not in _render("<script>alert(1)</script>")
    assert "&lt;script&gt;" in _render("<script>alert(1)</script>")


def test_the_same_story_gives_the_same_bytes() -> None:
    assert _render() == _render()


def test_each_picture_says_in_words_what_is_seen() -> None:
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', _render())
    assert labels[0] == "Launches in their order: 5 engine starts, 1 without a speed."
    assert len(labels) == 5


def test_a_sweep_without_a_pick_says_why() -> None:
    page = render_page("a sweep", tell(is_over=False), (), ())
    assert "No pick: nothing was stable" in page
