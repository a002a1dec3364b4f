"""A reporter that remembers what it was told."""

from __future__ import annotations

from collections.abc import Sequence


class Told:
    """`done` and `skipped` hold the titles of steps, `lines` what came from tools."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.done: list[str] = []
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.lines: list[str] = []

    def begin(self, titles: Sequence[str]) -> None:
        self.titles = list(titles)

    def skip(self, title: str) -> None:
        self.skipped.append(title)

    def start(self, title: str) -> None:
        self.lines.append(title)

    def output(self, line: str) -> None:
        self.lines.append(line)

    def finish(self, title: str, seconds: float) -> None:
        assert seconds >= 0
        self.done.append(title)

    def note(self, text: str) -> None:
        self.notes.append(text)
