from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from nexus_orch.types import Started
from nexus_orch.view.jsonl import JsonLinesView
from nexus_orch.view.live import LiveView
from nexus_orch.view.plain import PlainView
from nexus_orch.view.run_view import ViewFormat, choose_format, make_view
from nexus_orch.view.stream import QuietStream
from tests.view.histories import replay_all


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "stream", "environ", "chosen"),
    [
        ("auto", Terminal(), {"TERM": "xterm-256color"}, "live"),
        ("auto", Terminal(), {}, "live"),
        ("auto", Terminal(), {"TERM": "dumb"}, "plain"),
        ("auto", io.StringIO(), {"TERM": "xterm"}, "plain"),
        ("live", io.StringIO(), {}, "live"),
        ("plain", Terminal(), {}, "plain"),
        ("json", Terminal(), {}, "json"),
    ],
)
def test_the_stream_decides_unless_the_user_does(
    asked: ViewFormat, stream: io.StringIO, environ: dict[str, str], chosen: str
) -> None:
    assert choose_format(asked, stream, environ) == chosen


def test_each_format_has_its_view() -> None:
    assert isinstance(make_view("auto", io.StringIO()), PlainView)
    assert isinstance(make_view("json", io.StringIO()), JsonLinesView)
    assert isinstance(make_view("live", io.StringIO()), LiveView)


@pytest.mark.parametrize("view_format", ["plain", "json", "live"])
def test_no_view_minds_a_reader_that_went_away(view_format: ViewFormat) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as pipe:
        replay_all(make_view(view_format, pipe))
        _discard(pipe)


def _discard(pipe: io.TextIOWrapper) -> None:
    """Point the broken pipe somewhere else, so that closing it can flush what it still holds."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, pipe.fileno())
    os.close(descriptor)


@pytest.mark.parametrize("view_format", ["plain", "json", "live"])
def test_no_view_minds_a_full_disk_or_a_closed_file(view_format: ViewFormat, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        view = make_view(view_format, file)
    view.observe(Started(1.0, 1, 1, ()))
    replay_all(view)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("view_format", ["plain", "live"])
def test_a_narrow_encoding_is_no_reason_to_fall_silent(view_format: ViewFormat, encoding: str) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as stream:
        replay_all(make_view(view_format, stream))
        stream.flush()
        assert b"stopped: interrupted with Ctrl-C" in raw.getvalue()


def test_a_quiet_stream_tells_that_its_reader_is_gone() -> None:
    stream = io.StringIO()
    quiet = QuietStream(stream)
    quiet.write_line("heard")
    assert stream.getvalue() == "heard\n"
    assert not quiet.is_gone
    stream.close()
    quiet.write_line("not heard")
    assert quiet.is_gone
    assert not quiet.isatty()


def test_only_the_chosen_view_is_imported() -> None:
    import subprocess

    code = (
        "import io, sys; from nexus_orch.view.run_view import make_view; make_view('json', io.StringIO());"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
