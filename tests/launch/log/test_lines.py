"""Bytes to lines: every cut of the same stream gives the same lines, and no byte is lost from the count."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.launch.log.lines import LINE_LIMIT_BYTES, LineCutter, render_line


def _lines(*pieces: bytes) -> list[bytes]:
    cutter = LineCutter()
    lines = [line for piece in pieces for line, _ in cutter.feed(piece)]
    return lines + [line for line, _ in cutter.finish()]


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\n\ntwo", [b"one", b"", b"two"]),
        (b"dos\r\nlines\r\n", [b"dos", b"lines"]),
        (b"\r  0%\r 50%\r100%\nnext\n", [b"100%", b"next"]),
        (b"  0%\r 50%\r100%\r\n", [b"100%"]),
        (b"\n\r  0%\r 50%", [b"", b" 50%"]),
        (b"\r\r\n", [b""]),
    ],
)
def test_lines(stream: bytes, lines: list[bytes]) -> None:
    assert _lines(stream) == lines
    assert _lines(*(bytes([byte]) for byte in stream)) == lines


pieces_of_logs = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"text", b"\xff", b"\x1b[1m", b"x" * 5000, b" 37%|###  |"]), max_size=40
)


@given(pieces_of_logs, st.lists(st.integers(0, 50_000), max_size=10))
def test_the_cut_of_the_stream_makes_no_difference(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    marks = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [stream[start:end] for start, end in pairwise(marks)]
    assert _lines(*parts) == _lines(stream)
    cutter = LineCutter()
    sizes = [size for part in parts for _, size in cutter.feed(part)]
    sizes += [size for _, size in cutter.finish()]
    assert sum(sizes) == len(stream)


def test_a_long_line_is_cut_and_says_so() -> None:
    (line,) = _lines(b"x" * (LINE_LIMIT_BYTES + 100), b"y" * 50, b"\n")
    assert line == b"x" * LINE_LIMIT_BYTES + b" [151 bytes cut]"
    (exact,) = _lines(b"x" * LINE_LIMIT_BYTES + b"\n")
    assert exact == b"x" * LINE_LIMIT_BYTES


def test_an_endless_line_takes_bounded_memory() -> None:
    cutter = LineCutter()
    for _ in range(100):
        assert cutter.feed(b"x" * 100_000) == []
        assert len(cutter.unfinished) <= LINE_LIMIT_BYTES + 1
    ((line, size),) = cutter.finish()
    assert size == 10_000_000
    assert line.endswith(b"bytes cut]")


def test_the_unfinished_line_shows_its_present_state() -> None:
    cutter = LineCutter()
    cutter.feed(b"done\n\rLoading:  25%")
    assert cutter.unfinished == b"Loading:  25%"
    cutter.feed(b"\rLoading:  50%\r")
    assert cutter.unfinished == b"Loading:  50%"
    assert cutter.feed(b"Loading: 100%\n") == [(b"Loading: 100%", 43)]
    assert cutter.unfinished == b""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", "plain"),
        ("(█▄) größer".encode(), "(█▄) größer"),
        (b"\x1b[1;36m(EngineCore pid=7)\x1b[0;0m INFO", "(EngineCore pid=7) INFO"),
        (b"\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        (b"bell\x07 back\x08 null\x00 tab\tkept", "bell back null tab\tkept"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
    ],
)
def test_plain_text(line: bytes, text: str) -> None:
    assert render_line(line) == text
