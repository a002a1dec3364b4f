"""The journal of an installation: append-only JSON lines that survive kill -9 at any byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.files import SHARED, append_line, read_lines, write_atomic

JournalEvent = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """Events in the order they happened. Each has the key "event"; the others depend on it (see `steps.py`).

    Whoever may use what is installed may read how: users of one machine share an engine.
    """

    path: Path

    def read(self) -> list[JournalEvent]:
        """All whole events. A line that was cut off by a crash is passed over."""
        return list(read_lines(self.path, _parse_event).items)

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event and see it on the disk before going on."""
        append_line(self.path, dict(event), mode=SHARED)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at once: a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content, indent=2) + "\n", mode=SHARED)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is no such file or it does not hold one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _parse_event(event: Any) -> JournalEvent:
    if not isinstance(event, dict) or "event" not in event:
        raise ValueError("no event")
    return event
