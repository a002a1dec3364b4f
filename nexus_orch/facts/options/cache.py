"""What was read from an engine's sources (options and architectures), kept until one of those files changes.

One JSON file for each engine. It holds the size and modification time of every source file that was read; when one
differs, when the file is damaged, or when it was written by another version of the reader, it does not count.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.facts.options.record import parse_flag, render_flag
from nexus_orch.files import write_atomic
from nexus_orch.types import Flag

_READER = 2
"""Raise it whenever the reader gives other results for the same sources."""


@dataclass(frozen=True)
class EngineSources:
    """What the sources of one engine say."""

    flags: Mapping[str, Flag]
    architectures: frozenset[str] | None


def read_cached_sources(root: Path, cache_dir: Path) -> EngineSources | None:
    """What is cached for the package in `root`, or None when it must be read again."""
    try:
        content = json.loads(_cache_file(root, cache_dir).read_bytes())
        if content["reader"] != _READER or content["root"] != str(root):
            return None
        if any(_stamp(root / path) != stamp for path, stamp in content["files"].items()):
            return None
        known = content["architectures"]
        flags = {name: parse_flag(name, record) for name, record in content["flags"].items()}
        return EngineSources(flags, None if known is None else frozenset(known))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_cached_sources(root: Path, cache_dir: Path, sources: EngineSources, files: Iterable[Path]) -> None:
    """Keep them for the next time. A cache that cannot be written is no error: they are read again then."""
    target = _cache_file(root, cache_dir)
    try:
        content = {
            "reader": _READER,
            "root": str(root),
            "files": {path.relative_to(root).as_posix(): _stamp(path) for path in files},
            "flags": {name: render_flag(flag) for name, flag in sources.flags.items()},
            "architectures": None if sources.architectures is None else sorted(sources.architectures),
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, json.dumps(content, separators=(",", ":")), durable=False)
    except OSError:
        return


def _cache_file(root: Path, cache_dir: Path) -> Path:
    return cache_dir / "flags" / f"{zlib.crc32(str(root).encode()):08x}.json"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
