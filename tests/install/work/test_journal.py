from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.install.work.journal import Journal, read_json, write_json


def test_no_journal_holds_no_events(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl").read() == []


def test_events_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "install.jsonl")
    for number in range(3):
        journal.append({"event": "finished", "step": str(number)})
    assert [event["step"] for event in journal.read()] == ["0", "1", "2"]


def test_a_journal_cut_at_any_byte_keeps_its_whole_lines_and_takes_new_ones(tmp_path: Path) -> None:
    whole = Journal(tmp_path / "whole.jsonl")
    whole.append({"event": "begin", "steps": ["a"]})
    whole.append({"event": "finished", "step": "ä"})
    content = whole.path.read_bytes()
    for size in range(len(content) + 1):
        cut = Journal(tmp_path / f"{size}.jsonl")
        cut.path.write_bytes(content[:size])
        # A line is whole once its last brace is there, with or without the line end.
        kept = [event for event, end in zip(whole.read(), _line_ends(content), strict=True) if size >= end]
        cut.append({"event": "finished", "step": "new"})
        assert cut.read() == [*kept, {"event": "finished", "step": "new"}]


def _line_ends(content: bytes) -> list[int]:
    return [position for position, byte in enumerate(content) if byte == ord("\n")]


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"null", b'{"no": "event"}', b"\x00" * 40])
def test_foreign_lines_are_passed_over(tmp_path: Path, line: bytes) -> None:
    journal = Journal(tmp_path / "install.jsonl")
    journal.path.write_bytes(line + b"\n")
    journal.append({"event": "begin", "steps": []})
    assert journal.read() == [{"event": "begin", "steps": []}]


def test_json_files_are_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "engine.json"
    write_json(file, {"version": "1"})
    write_json(file, {"version": "2"})
    assert read_json(file) == {"version": "2"}
    assert [found.name for found in file.parent.iterdir()] == ["engine.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "3"])
def test_what_is_no_object_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "engine.json"
    file.write_text(content)
    assert read_json(file) is None
    assert read_json(tmp_path / "none.json") is None
