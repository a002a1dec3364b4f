from __future__ import annotations

import pytest

from nexus_orch.types import GIB, KIB, MIB
from nexus_orch.view.words import (
    render_bytes,
    render_columns,
    render_count,
    render_duration,
    render_fraction,
    render_markdown_table,
    render_rate,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 MiB"),
        (300, "300 B"),
        (5 * KIB, "5 KiB"),
        (730 * MIB, "730 MiB"),
        (GIB, "1.0 GiB"),
        (21.44 * GIB, "21.4 GiB"),
        (-7.41 * GIB, "-7.4 GiB"),
    ],
)
def test_bytes(count: float | None, text: str) -> None:
    assert render_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-0.2, "0.0 s"),
        (0.44, "0.4 s"),
        (38.4, "38 s"),
        (59.7, "1 min 00 s"),
        (125, "2 min 05 s"),
        (12000, "3 h 20 min"),
        (6 * 86400 + 3700, "6 d 01 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert render_duration(seconds) == text


def test_numbers() -> None:
    assert [render_count(value) for value in (None, 0, 23552.0)] == ["-", "0", "23,552"]
    assert [render_rate(value) for value in (None, 4.123, 99.94, 577.2, 1204)] == ["-", "4.1", "99.9", "577", "1,204"]
    assert [render_fraction(value) for value in (None, 0.424, 1)] == ["-", "42%", "100%"]


def test_columns() -> None:
    assert render_columns(("a", "number"), [("x", "1"), ("long", "12345678")], right=(1,)) == (
        "a       number\nx            1\nlong  12345678\n"
    )


def test_markdown_tables_keep_their_shape() -> None:
    table = render_markdown_table(("name", ""), [("a|b", "1"), ("two\nlines", "22")], right=(1,))
    assert table == "| name      |     |\n| --------- | --: |\n| a\\|b      |   1 |\n| two lines |  22 |\n"
