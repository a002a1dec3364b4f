"""How much of a file is cached, asked of the real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.facts.model.page_cache import estimate_cached_bytes, read_cached_bytes
from nexus_orch.types import MIB
from tests.ram.weights_files import drop_from_cache


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Eight MiB, none of them cached."""
    file = tmp_path / "weights"
    file.write_bytes(bytes(8 * MIB))
    drop_from_cache(file)
    return file


def _is_about(cached: int | None, size: int) -> bool:
    """The kernel may drop a page at any time."""
    return cached is not None and 0.9 * size <= cached <= size


def test_nothing_is_cached_of_a_file_that_was_dropped(file: Path) -> None:
    assert read_cached_bytes(file, 0, 8 * MIB) == 0
    assert estimate_cached_bytes([file]) == 0


def test_what_was_read_is_cached(file: Path) -> None:
    file.read_bytes()
    assert _is_about(read_cached_bytes(file, 0, 8 * MIB), 8 * MIB)
    assert _is_about(estimate_cached_bytes([file]), 8 * MIB)


def test_a_stretch_ends_with_the_file(file: Path) -> None:
    file.write_bytes(bytes(MIB + 100))
    assert read_cached_bytes(file, MIB, MIB) == 100
    assert read_cached_bytes(file, 2 * MIB, MIB) == 0


def test_an_estimate_weighs_files_by_their_size(file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(2 * MIB))
    assert _is_about(estimate_cached_bytes([file, small]), 2 * MIB)


def test_what_is_empty_or_gone_has_nothing_cached_or_is_unknown(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert read_cached_bytes(empty, 0, MIB) == 0
    assert estimate_cached_bytes([empty]) == 0
    assert estimate_cached_bytes([tmp_path / "gone"]) is None
