"""How much of a file lies in the page cache already, asked of the kernel without reading the file.

Linux: mincore(2) on a mapping that is never touched. Since Linux 5.2 it answers "all of it" for a file that the caller
neither owns nor may write, so that nobody can spy on others' reading: such files count as unknown.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_orch.types import MIB

if TYPE_CHECKING:
    import ctypes

_MAPPED_BYTES = 256 * MIB
"""At most so much is mapped at a time: strict overcommit counts even a mapping that is never written to."""
_SAMPLE_BYTES, _SAMPLES = 1 * MIB, 256
"""An estimate looks at so many stretches of all files together: a few milliseconds whatever their size."""


def read_cached_bytes(file: Path, offset: int, length: int) -> int | None:
    """How many of these bytes are cached; None when the system does not tell. `offset` is a multiple of 1 MiB.

    Raises OSError when the file cannot be opened.
    """
    if sys.platform != "linux":
        return None
    with file.open("rb") as stream:
        descriptor = stream.fileno()
        if not _may_ask(file, descriptor):
            return None
        end, cached = min(offset + length, os.fstat(descriptor).st_size), 0
        for start in range(offset, end, _MAPPED_BYTES):
            counted = _count_cached(descriptor, start, min(_MAPPED_BYTES, end - start))
            if counted is None:
                return None
            cached += counted
        return cached


def estimate_cached_bytes(files: Iterable[Path]) -> int | None:
    """About how much of these files is cached, from samples spread evenly; None when the system does not tell."""
    try:
        sizes = {file: file.stat().st_size for file in files}
        total = sum(sizes.values())
        pace = max(total // _SAMPLES // _SAMPLE_BYTES, 1) * _SAMPLE_BYTES
        looked = cached = 0
        for file, size in sizes.items():
            for start in range(0, size, pace):
                length = min(_SAMPLE_BYTES, size - start)
                counted = read_cached_bytes(file, start, length)
                if counted is None:
                    return None
                looked, cached = looked + length, cached + counted
    except OSError:  # it will be told when the file is read
        return None
    return round(total * cached / looked) if looked else 0


def _may_ask(file: Path, descriptor: int) -> bool:
    """Whether mincore tells the truth about this file (mm/mincore.c: can_do_mincore)."""
    if sys.platform == "win32":
        return False
    return os.geteuid() in (0, os.fstat(descriptor).st_uid) or os.access(file, os.W_OK)


def _count_cached(descriptor: int, start: int, length: int) -> int | None:
    """Cached bytes of one stretch. A copy-on-write mapping is the only kind that Python gives the address of."""
    import ctypes  # noqa: PLC0415 - only a model that lies here is asked about

    with mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY, offset=start) as mapping:
        pages = -(-length // mmap.PAGESIZE)
        states = (ctypes.c_ubyte * pages)()
        first = ctypes.c_char.from_buffer(mapping)
        try:
            failed = _libc().mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(length), states)
        finally:
            del first  # or the mapping could not be closed
        if failed:
            return None
        whole = pages - bytes(states).count(0)
    return min(whole * mmap.PAGESIZE, length)


@cache
def _libc() -> ctypes.CDLL:
    import ctypes  # noqa: PLC0415

    return ctypes.CDLL(None, use_errno=True)
