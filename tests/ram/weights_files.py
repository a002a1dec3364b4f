"""Real weight files for the tests of the preload: whole safetensors, whose data may be a hole that takes no disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nexus_orch.facts.model.checkpoint import read_checkpoint
from nexus_orch.types import MIB, CheckpointFacts


def write_weights(file: Path, size: int) -> Path:
    """A whole safetensors file with one tensor of so many bytes. The data is a hole: reading it costs memory only."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with file.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + size)
    return file


def make_checkpoint(folder: Path, *sizes_mib: int) -> CheckpointFacts:
    """A folder with files of these sizes, as the facts tell of it."""
    for number, size in enumerate(sizes_mib, start=1):
        write_weights(folder / f"model-{number}.safetensors", size * MIB)
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


def drop_from_cache(file: Path) -> None:
    """Let the kernel forget the cached pages of a file."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
