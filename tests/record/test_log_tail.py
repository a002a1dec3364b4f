from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.record.log_tail import CHUNK_BYTES, LogFollower, read_last_lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


def _cut_over(log: Path) -> None:
    log.replace(log.with_name("engine.log.1"))


def _append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def _drain(follower: LogFollower) -> bytes:
    return b"".join(iter(follower.read_new, b""))


def test_what_a_log_gains_is_read_once(log: Path) -> None:
    follower = LogFollower(log)
    assert _drain(follower) == b""
    _append(log, b"one\ntw")
    assert _drain(follower) == b"one\ntw"
    assert _drain(follower) == b""
    _append(log, b"o\n")
    assert _drain(follower) == b"o\n"


def test_a_follower_can_start_in_the_middle(log: Path) -> None:
    log.write_bytes(b"old\nnew\n")
    assert _drain(LogFollower(log, offset=4)) == b"new\n"


def test_nothing_is_lost_when_the_log_is_cut_over(log: Path) -> None:
    follower = LogFollower(log)
    log.write_bytes(b"one\n")
    assert _drain(follower) == b"one\n"
    _append(log, b"two\n")
    _cut_over(log)
    assert _drain(follower) == b""  # in the middle of the cut-over there is no engine.log
    log.write_bytes(b"three\n")
    assert _drain(follower) == b"two\nthree\n"
    assert follower.gaps == 0


def test_many_cut_overs_are_followed(log: Path) -> None:
    follower = LogFollower(log)
    log.touch()
    read = _drain(follower)
    for number in range(50):
        _append(log, b"line %d\n" % number)
        if number % 3 == 0:
            _cut_over(log)
            log.touch()
        read += _drain(follower)
    assert read == b"".join(b"line %d\n" % number for number in range(50))
    assert follower.gaps == 0


def test_a_log_cut_over_twice_is_followed_with_a_gap(log: Path) -> None:
    follower = LogFollower(log)
    log.write_bytes(b"one\n")
    assert _drain(follower) == b"one\n"
    for text in (b"two\n", b"three\n"):
        _append(log, b"lost\n" if text == b"two\n" else b"")
        _cut_over(log)
        log.write_bytes(text)
    assert _drain(follower) == b"two\nthree\n"
    assert follower.gaps == 1


def test_the_last_lines_are_read_from_the_end(log: Path) -> None:
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    assert log.stat().st_size > CHUNK_BYTES
    assert read_last_lines(log, 3) == [b"line 99997", b"line 99998", b"line 99999"]
    assert len(read_last_lines(log, 50_000)) == 50_000
    assert len(read_last_lines(log, 1_000_000)) == 100_000
    assert read_last_lines(log, 0) == []


def test_the_last_lines_reach_into_the_older_piece(log: Path) -> None:
    log.with_name("engine.log.1").write_bytes(b"one\ntwo\n")
    log.write_bytes(b"three\nfour")
    assert read_last_lines(log, 3) == [b"two", b"three", b"four"]
    assert read_last_lines(log, 2) == [b"three", b"four"]
    assert read_last_lines(log, 9) == [b"one", b"two", b"three", b"four"]


def test_an_empty_log_has_no_lines(log: Path) -> None:
    log.touch()
    assert read_last_lines(log, 5) == []
