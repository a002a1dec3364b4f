"""Readers on real files, which vanish, shrink or cannot be read while they are at it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_orch.facts.model.page_cache import read_cached_bytes
from nexus_orch.ram.preload import Preload
from nexus_orch.ram.weights import Piece, PreloadWork, find_preload_work
from nexus_orch.types import GIB, MIB
from tests.ram.weights_files import drop_from_cache, make_checkpoint, write_weights

PATIENCE_SECONDS = 60.0


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _reading(*pieces: Piece) -> PreloadWork:
    return PreloadWork(pieces, sum(piece.length for piece in pieces), 0, ())


def _long_reading(folder: Path) -> tuple[Path, PreloadWork]:
    """Work of some seconds for one reader: a file that is a hole of 12 GiB."""
    file = write_weights(folder / "model.safetensors", 12 * GIB)
    size = file.stat().st_size
    pieces = (Piece(file, start, min(32 * MIB, size - start)) for start in range(0, size, 32 * MIB))
    return file, _reading(*pieces)


@pytest.mark.parametrize("channels", [1, 4, 256])
def test_everything_is_read_once(tmp_path: Path, channels: int) -> None:
    checkpoint = make_checkpoint(tmp_path, 70, 3)
    for file in checkpoint.files:
        drop_from_cache(Path(file))
    reading = find_preload_work(checkpoint)
    preload = Preload(reading, channels)
    _wait(lambda: preload.is_over)
    assert preload.problem is None
    assert preload.done_bytes == reading.wanted_bytes
    assert preload.channels == min(channels, len(reading.pieces))


def test_what_was_read_is_cached(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 70)
    (file,) = map(Path, checkpoint.files)
    drop_from_cache(file)
    assert read_cached_bytes(file, 0, checkpoint.file_bytes[0]) == 0
    preload = Preload(find_preload_work(checkpoint), 2)
    _wait(lambda: preload.is_over)
    cached = read_cached_bytes(file, 0, checkpoint.file_bytes[0])
    assert cached is not None
    assert cached > 0.9 * checkpoint.file_bytes[0]  # the kernel may drop a page at any time


def test_a_file_that_vanishes_ends_it(tmp_path: Path) -> None:
    file, reading = _long_reading(tmp_path)
    preload = Preload(reading, 1)
    _wait(lambda: preload.done_bytes > 0)
    file.unlink()
    _wait(lambda: preload.is_over)
    assert preload.problem is not None
    assert "has vanished since the run was planned" in preload.problem.message
    assert preload.problem.cause == "weights_missing"


def test_a_file_that_is_cut_off_ends_it(tmp_path: Path) -> None:
    file, reading = _long_reading(tmp_path)
    preload = Preload(reading, 1)
    _wait(lambda: preload.done_bytes > 0)
    os.truncate(file, 100)
    _wait(lambda: preload.is_over)
    assert preload.problem is not None
    assert "has changed since the run was planned: it ends at byte" in preload.problem.message
    assert preload.problem.cause == "weights_missing"


def test_the_end_of_a_file_that_was_cut_off_is_told_and_not_that_of_a_reader(tmp_path: Path) -> None:
    """It was cut off before this piece begins: the piece's begin is no news of the file."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(1234))
    preload = Preload(_reading(Piece(file, 32 * MIB, MIB)), 1)
    _wait(lambda: preload.is_over)
    assert preload.problem is not None
    assert f"it ends at byte 1234, {33 * MIB} or more were planned" in preload.problem.message


def test_an_error_of_the_disk_is_told_with_its_place(tmp_path: Path) -> None:
    unreadable = Path("/proc/self/mem")  # at address 0 nothing is mapped: the kernel answers EIO
    preload = Preload(_reading(Piece(unreadable, 0, 4096)), 1)
    _wait(lambda: preload.is_over)
    assert preload.problem is not None
    assert preload.problem.message == "the weight file /proc/self/mem cannot be read at byte 0: Input/output error"
    assert preload.problem.cause == "weights_missing"


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    file, reading = _long_reading(tmp_path)
    preload = Preload(reading, 2)
    _wait(lambda: preload.done_bytes > 0)
    preload.cancel()
    _wait(lambda: preload.is_over)
    assert preload.problem is None
    assert preload.done_bytes < reading.wanted_bytes
    file.unlink()
