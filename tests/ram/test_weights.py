"""What there is to read ahead: files as planned, and what of them is not cached."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.errors import ExitCode, InterruptedByEnvironment
from nexus_orch.ram.weights import PIECE_BYTES, check_files, find_preload_work
from nexus_orch.types import CheckpointFacts
from tests.ram.weights_files import drop_from_cache, make_checkpoint


def test_the_pieces_of_files_that_are_not_cached_cover_them(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 70, 3)
    reading = find_preload_work(checkpoint)
    assert reading.total_bytes == sum(checkpoint.file_bytes)
    assert reading.wanted_bytes + reading.cached_bytes == reading.total_bytes
    assert all(0 < piece.length <= PIECE_BYTES for piece in reading.pieces)


def test_what_is_cached_is_not_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 70, 40)
    first, second = map(Path, checkpoint.files)
    for file in (first, second):
        drop_from_cache(file)
    first.read_bytes()
    reading = find_preload_work(checkpoint)
    assert reading.cached_files == (first.name,)
    assert {piece.file for piece in reading.pieces} == {second}
    assert reading.cached_bytes == checkpoint.file_bytes[0]


def test_files_that_are_as_planned_are_good(tmp_path: Path) -> None:
    check_files(make_checkpoint(tmp_path, 1, 2))


def test_every_file_that_is_not_as_planned_is_told(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 1, 2, 3)
    gone, short, damaged = map(Path, checkpoint.files)
    gone.unlink()
    with short.open("r+b") as stream:
        stream.truncate(1000)
    size = damaged.stat().st_size
    damaged.write_bytes(bytes(size))
    with pytest.raises(InterruptedByEnvironment) as caught:
        check_files(checkpoint)
    problems = caught.value.problems
    assert [problem.cause for problem in problems] == ["weights_missing"] * 3
    assert f"{gone} has vanished" in problems[0].message
    assert f"it had {checkpoint.file_bytes[1]} bytes when the run was planned and has 1000 now" in problems[1].message
    assert "not a whole safetensors file" in problems[2].message
    assert caught.value.exit_code == ExitCode.ENVIRONMENT


def test_a_file_of_another_format_is_judged_by_its_size(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(100))
    checkpoint = CheckpointFacts("gguf", (str(file),), 100, file_bytes=(100,))
    check_files(checkpoint)
    file.write_bytes(bytes(99))
    with pytest.raises(InterruptedByEnvironment, match="has 99 now"):
        check_files(checkpoint)
