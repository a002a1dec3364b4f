"""How an installation shows what it does: a live view in a terminal, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PLAIN_LINE_LENGTH = 140
PLAIN_LINE_SECONDS = 10.0
"""Plain output shows a running step's last line at most this often."""


class Reporter(Protocol):
    """Who is told. Titles are as in `Step.title`."""

    def begin(self, titles: Sequence[str]) -> None: ...
    def skip(self, title: str) -> None:
        """This step was finished by an earlier call."""

    def start(self, title: str) -> None: ...
    def output(self, line: str) -> None:
        """The latest line of the tool that the running step uses."""

    def finish(self, title: str, seconds: float) -> None: ...
    def note(self, text: str) -> None:
        """Something that the user should read also afterwards."""


class SilentReporter:
    """Tells nobody."""

    def begin(self, titles: Sequence[str]) -> None: ...
    def skip(self, title: str) -> None: ...
    def start(self, title: str) -> None: ...
    def output(self, line: str) -> None: ...
    def finish(self, title: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class PlainReporter:
    """One line when a step begins, one when it ends, and its tool's latest line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._count = 0
        self._position = 0
        self._last_shown = 0.0

    def begin(self, titles: Sequence[str]) -> None:
        self._count, self._position = len(titles), 0

    def skip(self, title: str) -> None:
        self._position += 1
        self._say(f"{title}: done before")

    def start(self, title: str) -> None:
        self._position += 1
        self._last_shown = time.monotonic()
        self._say(title)

    def output(self, line: str) -> None:
        if time.monotonic() - self._last_shown >= PLAIN_LINE_SECONDS:
            self._last_shown = time.monotonic()
            self._say(line)

    def finish(self, title: str, seconds: float) -> None:
        self._say(f"{title}: done in {seconds:.1f} s")

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        line = text if len(text) <= PLAIN_LINE_LENGTH else text[: PLAIN_LINE_LENGTH - 3] + "..."
        self.note(f"[{self._position}/{self._count}] {line}")


class LiveReporter:
    """One line that moves: the step, how long it takes, its tool's latest line. Finished steps stay above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, detail="")
        self._count = 0
        self._position = 0

    def begin(self, titles: Sequence[str]) -> None:
        self._count, self._position = len(titles), 0

    def skip(self, title: str) -> None:
        self._position += 1
        self.note(f"[{self._position}/{self._count}] {title}: done before")

    def start(self, title: str) -> None:
        self._position += 1
        self._progress.reset(self._task, description=f"[{self._position}/{self._count}] {title}", detail="")

    def output(self, line: str) -> None:
        self._progress.update(self._task, detail=line)

    def finish(self, title: str, seconds: float) -> None:
        self._progress.update(self._task, description="", detail="")
        self.note(f"[{self._position}/{self._count}] {title}: done in {seconds:.1f} s")

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_progress(console: Console) -> AbstractContextManager[Reporter]:
    """The reporter that suits the console, alive while inside the `with`."""
    return _show_live(console) if console.is_terminal else _show_plain(console)


@contextmanager
def _show_plain(console: Console) -> Iterator[Reporter]:
    yield PlainReporter(console)


@contextmanager
def _show_live(console: Console) -> Iterator[Reporter]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim", table_column=Column(no_wrap=True, ratio=1)),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        yield LiveReporter(progress)
