"""What is done in RAM before the launch, as the views show it."""

from __future__ import annotations

import io
import json

from nexus_orch.session.ahead import describe_trial, make_starting, with_pace
from nexus_orch.types import GIB, RamProgress, Stage, Started, Starting
from nexus_orch.view.frame import make_frame
from nexus_orch.view.jsonl import JsonLinesView
from nexus_orch.view.picture import Picture
from nexus_orch.view.plain import PlainView
from tests.record.examples import START, make_plan

HALF = with_pace(RamProgress(START, 1, "preloading", 8 * GIB, 16 * GIB), 4.0)


def _picture() -> Picture:
    picture = Picture()
    picture.plan(make_plan(), "a-run", "http://127.0.0.1:8000")
    picture.observe(HALF)
    picture.judge(make_starting(HALF))
    return picture


def _stages(picture: Picture) -> str:
    return make_frame(picture, 120, 24)[2].plain


def test_the_pace_gives_the_time_that_is_left() -> None:
    assert HALF.bytes_per_second == 2 * GIB
    assert HALF.remaining_seconds == 4.0
    begun = with_pace(RamProgress(START, 1, "reserving", 0, GIB), 0.0)
    assert (begun.bytes_per_second, begun.remaining_seconds) == (None, None)


def test_a_whole_trial_and_one_that_was_cut_short() -> None:
    assert describe_trial(2 * GIB, 2 * GIB, 1.3) == "2.0 GiB of RAM were there when tried (1.3 s)"
    assert describe_trial(40 * GIB, 14 * GIB, 60.0) == (
        "14.0 GiB of RAM were there when tried (1 min 00 s); 26.0 GiB more were not tried, because that would have "
        "taken too long"
    )


def test_it_is_a_stage_with_its_figures() -> None:
    assert make_starting(HALF) == Starting(Stage.PRELOADING, 0.5, "8.0 GiB of 16.0 GiB, 2.15 GB/s, 4.0 s left")


def test_the_live_view_shows_the_stage_only_where_there_is_one() -> None:
    picture = _picture()
    assert "▸ preloading" in _stages(picture)
    assert "reserving" not in _stages(picture)
    assert "50%  8.0 GiB of 16.0 GiB, 2.15 GB/s, 4.0 s left" in make_frame(picture, 120, 24)[1].plain
    assert "preloading" not in _stages(Picture())


def test_the_stage_stays_when_the_engine_starts_and_goes_with_the_next_plan() -> None:
    picture = _picture()
    picture.observe(Started(START + 6, 1, 4100, ("vllm",)))
    picture.judge(Starting())
    assert "✓ preloading 6.0 s  ▸ starting" in _stages(picture)
    picture.plan(make_plan(), "a-run", "http://127.0.0.1:8000")
    assert "preloading" not in _stages(picture)


def test_plain_lines_and_json_lines_tell_it() -> None:
    plain, lines = io.StringIO(), io.StringIO()
    for view in (PlainView(plain), JsonLinesView(lines)):
        view.observe(HALF)
        view.verdict(make_starting(HALF))
    assert "preloading 50%: 8.0 GiB of 16.0 GiB, 2.15 GB/s, 4.0 s left" in plain.getvalue()
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert (first["kind"], first["step"], first["remaining_seconds"]) == ("ram_progress", "preloading", 4.0)
    assert (second["kind"], second["verdict"]["stage"]) == ("verdict", "preloading")
