"""Printing without the blanks with which rich fills lines, so that output can be copied, compared and piped."""

from __future__ import annotations

from rich.console import Console, RenderableType


def print_trimmed(console: Console, content: RenderableType) -> None:
    """Print as the console would, never cut, with no blanks at the ends of lines."""
    with console.capture() as captured:
        console.print(content, crop=False)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
