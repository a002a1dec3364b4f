"""What there is to read ahead: the weight files, whole as planned, and the pieces of them that are not cached yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexus_orch.errors import ConfigError, InterruptedByEnvironment, Problem
from nexus_orch.facts.model.page_cache import read_cached_bytes
from nexus_orch.facts.model.safetensors_header import read_safetensors_header
from nexus_orch.types import MIB, CheckpointFacts

PIECE_BYTES = 32 * MIB
"""What a reader takes at a time: long enough to be read in one go, short enough that all readers end together."""

CACHED_SHARE = 0.98
"""A piece that lacks less than the rest counts as cached: kernels drop single pages of files at any time."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a weight file that is read by one reader."""

    file: Path
    offset: int
    length: int


@dataclass(frozen=True)
class PreloadWork:
    """The work of a preload. Bytes count over all files; `cached_files` are names of files that are wholly cached."""

    pieces: tuple[Piece, ...]
    total_bytes: int
    cached_bytes: int
    cached_files: tuple[str, ...]

    @property
    def wanted_bytes(self) -> int:
        return sum(piece.length for piece in self.pieces)


def find_preload_work(checkpoint: CheckpointFacts) -> PreloadWork:
    """Look at each weight file anew. Raises InterruptedByEnvironment with every file that is not as it was planned."""
    check_files(checkpoint)
    pieces: list[Piece] = []
    cached_files: list[str] = []
    total = cached = 0
    for file, size in zip(map(Path, checkpoint.files), checkpoint.file_bytes, strict=True):
        missing = _find_missing(file, size)
        absent = sum(piece.length for piece in missing)
        total, cached = total + size, cached + size - absent
        pieces += missing
        if not missing:
            cached_files.append(file.name)
    return PreloadWork(tuple(pieces), total, cached, tuple(cached_files))


def check_files(checkpoint: CheckpointFacts) -> None:
    """Whether every weight file is there and whole. Raises InterruptedByEnvironment with all that are not."""
    problems: list[Problem] = []
    for file, size in zip(map(Path, checkpoint.files), checkpoint.file_bytes, strict=True):
        try:
            now = file.stat().st_size
            if now != size:
                problems.append(make_changed(file, f"it had {size} bytes when the run was planned and has {now} now"))
            elif checkpoint.format == "safetensors":
                read_safetensors_header(file)
        except OSError as error:
            problems.append(make_unreadable(file, error))
        except ConfigError as error:
            problems.append(make_changed(file, error.problems[0].message))
    if problems:
        raise InterruptedByEnvironment(*problems)


def make_unreadable(file: Path, error: OSError, offset: int | None = None) -> Problem:
    """A file that was there when the run was planned, and that cannot be read any more."""
    if isinstance(error, FileNotFoundError):
        what = f"the weight file {file} has vanished since the run was planned"
        return Problem(what, remedy="bring the file or its disk back", cause="weights_missing")
    where = "" if offset is None else f" at byte {offset}"
    return Problem(
        f"the weight file {file} cannot be read{where}: {error.strerror or error}",
        remedy="look after the disk or the network it lies on, then download the file again if it stays unreadable",
        cause="weights_missing",
    )


def make_changed(file: Path, what: str) -> Problem:
    """A file that is not what it was when the run was planned."""
    return Problem(
        f"the weight file {file} has changed since the run was planned: {what}",
        remedy="wait until what writes it is done, or download it again",
        cause="weights_missing",
    )


def _find_missing(file: Path, size: int) -> list[Piece]:
    """The pieces of a file that are not cached; all of them where the system does not tell."""
    pieces = [Piece(file, start, min(PIECE_BYTES, size - start)) for start in range(0, size, PIECE_BYTES)]
    try:
        return [piece for piece in pieces if not _is_cached(piece)]
    except OSError as error:
        raise InterruptedByEnvironment(make_unreadable(file, error)) from error


def _is_cached(piece: Piece) -> bool:
    cached = read_cached_bytes(piece.file, piece.offset, piece.length)
    return cached is not None and cached >= CACHED_SHARE * piece.length
