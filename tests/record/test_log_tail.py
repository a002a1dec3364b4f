from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.record.log_tail import CHUNK_BYTES, LogFollower


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


def test_a_follower_goes_on_behind_the_last_lines(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nth")
    follower = LogFollower(log)
    assert follower.read_last(2) == b"two\nth"
    _append(log, b"ree\n")
    assert _drain(follower) == b"ree\n"


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


def _read_last(log: Path, lines: int) -> bytes:
    return LogFollower(log).read_last(lines)


def test_the_last_lines_are_read_from_the_end(log: Path) -> None:
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    assert log.stat().st_size > CHUNK_BYTES
    assert _read_last(log, 3) == b"line 99997\nline 99998\nline 99999\n"
    assert _read_last(log, 50_000).count(b"\n") == 50_000
    assert _read_last(log, 1_000_000) == log.read_bytes()
    assert _read_last(log, 0) == b""


def test_the_last_lines_reach_into_the_older_piece(log: Path) -> None:
    log.with_name("engine.log.1").write_bytes(b"one\ntwo\n")
    log.write_bytes(b"three\nfour")
    assert _read_last(log, 1) == b"four"
    assert _read_last(log, 2) == b"three\nfour"
    assert _read_last(log, 3) == b"two\nthree\nfour"
    assert _read_last(log, 9) == b"one\ntwo\nthree\nfour"


def test_a_line_that_was_cut_over_in_the_middle_is_whole_again(log: Path) -> None:
    log.with_name("engine.log.1").write_bytes(b"one\ntw")
    log.write_bytes(b"o\nthree\n")
    assert _read_last(log, 9) == b"one\ntwo\nthree\n"


def test_a_missing_or_empty_log_has_no_lines(log: Path) -> None:
    assert _read_last(log, 5) == b""
    log.touch()
    assert _read_last(log, 5) == b""
