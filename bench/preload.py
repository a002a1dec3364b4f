"""Reading weights from the disk into RAM: parallel readers against one reader and against copying out of a mapping, as
the safetensors library does. Each way begins with an empty page cache, in turns, so that noise falls on all alike.

    python -m bench.preload [GIB] [FOLDER]
"""

from __future__ import annotations

import mmap
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nexus_orch.ram.preload import Preload
from nexus_orch.ram.weights import PIECE_BYTES, Piece, PreloadWork
from nexus_orch.types import GIB, MIB
from tests.ram.weights_files import drop_from_cache

ROUNDS = 5
CHANNELS = (1, 2, 4, 8, 16)
COPY_BYTES = 64 * MIB
GAIN = 1.5
"""The readers that a plan would take must be so much faster than copying out of a mapping."""


def main(gib: float, folder: Path) -> int:
    """Print the medians; 0 when reading ahead is worth it here."""
    with tempfile.NamedTemporaryFile(dir=folder) as stream:
        file = Path(stream.name)
        block = os.urandom(COPY_BYTES)
        for _ in range(int(gib * GIB) // COPY_BYTES):
            stream.write(block)
        stream.flush()
        ways: dict[str, Callable[[], None]] = {
            "copying out of a mapping": lambda: _copy_mapping(file),
            "one plain reader": lambda: _read_plainly(file),
        }
        ways |= {f"{count} channels": lambda count=count: _preload(file, count) for count in CHANNELS}  # type: ignore[misc]
        rates = _measure(file, ways)
    for name, found in rates.items():
        listed = " ".join(f"{rate:.2f}" for rate in found)
        sys.stdout.write(f"{name:<26}{statistics.median(found):6.2f} GB/s   ({listed})\n")
    gain = statistics.median(rates["4 channels"]) / statistics.median(rates["copying out of a mapping"])
    sys.stdout.write(f"4 channels against the mapping: {gain:.1f} times\n")
    return 0 if gain >= GAIN else 1


def _measure(file: Path, ways: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """GB/s of each way in each round."""
    size = file.stat().st_size
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, read in ways.items():
            drop_from_cache(file)
            started = time.perf_counter()
            read()
            rates[name].append(size / (time.perf_counter() - started) / 1e9)
    return rates


def _copy_mapping(file: Path) -> None:
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        for start in range(0, len(mapping), COPY_BYTES):
            mapping[start : start + COPY_BYTES]


def _read_plainly(file: Path) -> None:
    with file.open("rb", buffering=0) as stream:
        while stream.read(4 * MIB):
            pass


def _preload(file: Path, channels: int) -> None:
    size = file.stat().st_size
    starts = range(0, size, PIECE_BYTES)
    pieces = tuple(Piece(file, start, min(PIECE_BYTES, size - start)) for start in starts)
    preload = Preload(PreloadWork(pieces, size, 0, ()), channels)
    while not preload.is_over:
        time.sleep(0.005)


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(float(words[0]) if words else 2.0, Path(words[1]) if len(words) > 1 else Path.cwd()))
