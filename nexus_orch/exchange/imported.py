"""One start of vLLM, or a settings file of the ancestor, as settings of ours with all that is to be said about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from nexus_orch.errors import Problem
from nexus_orch.exchange.start import Note, NoteKind

SECTIONS = ("model", "hardware", "memory", "engine", "serve", "workload")


@dataclass
class Imported:
    """What a profile will say. `settings` are dotted keys with their values, `said` how the source says them, `groups`
    the options of groups that the profile chooses."""

    settings: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    extra_args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    opened: dict[str, str] = field(default_factory=dict)
    """Settings that the source leaves to vLLM by a word for it, and that word."""
    doubts: list[str] = field(default_factory=list)
    """Why the release that it was read for is not the one that it was written for."""

    def set(self, key: str, value: Any, said: str) -> None:
        """A setting; of several the last one counts, as in vLLM."""
        if key in self.settings and self.settings[key] != value:
            self.note("left out", f"{self.said[key]}: the later {said} counts")
        self.settings[key] = value
        self.said[key] = said

    def note(self, kind: NoteKind, text: str) -> None:
        """Something to tell, once."""
        note = Note(kind, text)
        if note not in self.notes:
            self.notes.append(note)

    def note_all(self, notes: Iterable[Note]) -> None:
        for note in notes:
            self.note(note.kind, note.text)

    def drop_what_only_the_planner_sets(self, is_setting: Callable[[str], bool]) -> None:
        """Leave out what no profile can hold."""
        for key in [key for key in self.settings if not is_setting(key)]:
            del self.settings[key]
            self.note("open", f"{self.said[key]}: the planner works it out ({key})")
