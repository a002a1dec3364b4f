"""Logs as they lie on disks: compressed, from PowerShell, huge, cut short, or no logs at all."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.judge.log.lines import MAX_LINE_CHARACTERS
from nexus_orch.observe.log_text import read_log_lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


def lines_of(path: Path) -> list[str]:
    return list(read_log_lines(str(path)))


def test_plain_text(log: Path) -> None:
    log.write_text("eins\nzwei ä\n\ndrei", encoding="utf-8")
    assert lines_of(log) == ["eins", "zwei ä", "", "drei"]


def test_an_empty_file_has_no_lines(log: Path) -> None:
    log.write_bytes(b"")
    assert lines_of(log) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_the_encoding_are_understood(log: Path, encoding: str) -> None:
    log.write_bytes("one\r\ntwo\r\n".encode(encoding))
    assert lines_of(log) == ["one", "two"]


def test_bytes_that_are_no_utf_8_are_replaced(log: Path) -> None:
    log.write_bytes(b"caf\xe9\n")
    assert lines_of(log) == ["caf�"]


def test_each_state_of_a_progress_bar_is_a_line(log: Path) -> None:
    log.write_bytes(b" 0%|\r 50%|\r100%|\nnext\n")
    assert lines_of(log) == [" 0%|", " 50%|", "100%|", "next"]


def test_gzip(log: Path) -> None:
    log.write_bytes(gzip.compress(b"one\ntwo\n"))
    assert lines_of(log) == ["one", "two"]


def test_a_run_folder_stands_for_its_log(log: Path) -> None:
    log.write_text("one\n")
    assert lines_of(log.parent) == ["one"]


def test_of_an_endless_line_only_the_beginning_is_held(log: Path) -> None:
    log.write_bytes(b"x" * (5 * MAX_LINE_CHARACTERS + 7) + b"\nnext\n")
    assert [len(line) for line in lines_of(log)] == [MAX_LINE_CHARACTERS, 4]


def test_a_line_as_long_as_the_limit_does_not_swallow_the_next(log: Path) -> None:
    longest = "x" * (MAX_LINE_CHARACTERS - 1)
    log.write_text(f"{longest}\ny{longest}\nnext\n")
    assert lines_of(log) == [longest, "y" + longest, "next"]


def test_a_large_file_is_streamed(log: Path) -> None:
    """Reading begins before the end is read: the first line comes at once, from a file that has a hole of 1 GB."""
    with log.open("wb") as stream:
        stream.write(b"first\n" * 2000)
        stream.truncate(1 << 30)
    lines: Iterator[str] = read_log_lines(str(log))
    assert next(lines) == "first"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"one\ntwo\n"))))
    assert list(read_log_lines("-")) == ["one", "two"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.*: No such file"):
        list(read_log_lines(str(tmp_path / "nowhere")))


def test_a_file_that_may_not_be_read(log: Path) -> None:
    log.mkdir()
    (log / "engine.log").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        lines_of(log)


def test_what_is_no_text(log: Path) -> None:
    log.write_bytes(b"\x7fELF\x02\x01\x01\x00\x00\x00")
    with pytest.raises(ConfigError, match="is no text"):
        lines_of(log)


def test_a_compressed_log_that_was_cut_short(log: Path) -> None:
    text = "".join(f"line {number} {number * 7919 % 10_007}\n" for number in range(10_000))
    packed = gzip.compress(text.encode())
    log.write_bytes(packed[: len(packed) // 2])
    lines = lines_of(log)
    assert 1_000 < len(lines) < 10_000
    assert lines[:-1] == text.split("\n")[: len(lines) - 1]


def test_a_compressed_log_that_is_damaged(log: Path) -> None:
    content = bytearray(gzip.compress(bytes(range(1, 256)) * 50))
    content[30:60] = b"\xff" * 30
    log.write_bytes(bytes(content))
    with pytest.raises(ConfigError, match="damaged or cut short"):
        lines_of(log)
