"""The journal of an installation: append-only JSON lines that survive kill -9 at any byte."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

Event = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """Events in the order they happened. Each has the key "event"; the others depend on it (see `steps.py`)."""

    path: Path

    def read(self) -> list[Event]:
        """All whole events. A line that was cut off by a crash is passed over."""
        if not self.path.is_file():
            return []
        events = (_parse_line(line) for line in self.path.read_bytes().split(b"\n"))
        return [event for event in events if event is not None]

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event and see it on the disk before going on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(event).encode() + b"\n"
        with self.path.open("a+b") as file:
            if _ends_inside_a_line(file):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at once: a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is no such file or it does not hold one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _parse_line(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _ends_inside_a_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
