"""engine.log: cut over at its limit, marked where bytes are missing, harmless when the disk fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.launch.log import file as log_file
from nexus_orch.launch.log.file import LogFile


class Told(list[str]):
    """What the file said about itself."""

    def __call__(self, text: str) -> None:
        self.append(text)


def test_two_pieces_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    file = LogFile(path, limit_bytes=10, on_failure=Told())
    for piece in (b"aaaaa", b"bbbbb", b"ccccc", b"ddddd", b"e"):
        file.write(piece)
    file.close()
    assert path.read_bytes() == b"e"
    assert (tmp_path / "engine.log.1").read_bytes() == b"cccccddddd"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["engine.log", "engine.log.1"]
    assert (file.written_bytes, file.dropped_bytes) == (21, 0)


def test_a_piece_larger_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    file = LogFile(path, limit_bytes=10, on_failure=Told())
    file.write(bytes(range(35)))
    file.close()
    assert (tmp_path / "engine.log.1").read_bytes() + path.read_bytes() == bytes(range(20, 35))
    assert file.written_bytes == 35


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"first attempt\n")
    file = LogFile(path, limit_bytes=1000, on_failure=Told())
    file.write(b"second\n")
    file.close()
    assert path.read_bytes() == b"first attempt\nsecond\n"


def test_lost_bytes_are_marked_where_they_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    file = LogFile(path, limit_bytes=1000, on_failure=Told())
    file.write(b"before\n")
    file.drop(70)
    file.drop(7)
    file.write(b"after\n")
    file.drop(5)
    file.close()
    mark = b"\n[nexus_orch: %d bytes of output lost]\n"
    assert path.read_bytes() == b"before\n" + mark % 77 + b"after\n" + mark % 5
    assert (file.written_bytes, file.dropped_bytes) == (13, 82)


def test_a_folder_that_is_missing_is_told_once_and_may_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "RETRY_SECONDS", 0.0)
    path = tmp_path / "later" / "engine.log"
    told = Told()
    file = LogFile(path, limit_bytes=1000, on_failure=told)
    file.write(b"lost")
    file.write(b"lost")
    (reason,) = told
    assert reason.startswith("engine.log cannot be written (No such file or directory)")
    path.parent.mkdir()
    file.write(b"kept")
    file.close()
    assert path.read_bytes() == b"\n[nexus_orch: 8 bytes of output lost]\nkept"
    assert (file.written_bytes, file.dropped_bytes) == (4, 8)


def test_after_a_failure_the_file_rests(tmp_path: Path) -> None:
    path = tmp_path / "later" / "engine.log"
    file = LogFile(path, limit_bytes=1000, on_failure=Told())
    file.write(b"lost")
    path.parent.mkdir()
    file.write(b"lost too")
    file.close()
    assert not path.exists()
    assert file.dropped_bytes == 12


def test_a_full_disk_is_told_in_plain_words() -> None:
    told = Told()
    file = LogFile(Path("/dev/full"), limit_bytes=1000, on_failure=told)
    file.write(b"does not fit")
    file.close()
    assert told == ["full cannot be written (the disk is full); the engine goes on without it"]
    assert (file.written_bytes, file.dropped_bytes) == (0, 12)
