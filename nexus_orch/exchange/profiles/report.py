"""What an import has to tell beside the profile."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nexus_orch.exchange.start import Note, NoteKind

TITLES: dict[NoteKind, str] = {
    "release": "the release",
    "assumed": "assumed",
    "secret": "secrets",
    "no effect": "without effect, left out",
    "left out": "not carried over",
    "changed": "changed",
    "passed on": "passed on as serve.extra_args, checked against the release's options",
    "open": "good to know",
    "plan": "what the planner says",
}


def render_report(title: str, notes: Sequence[Note], width: int | None = None) -> str:
    """The notes under a heading for each kind, in the order of `TITLES`; broken between words at `width` columns."""
    lines = [title]
    for kind, heading in TITLES.items():
        texts = [note.text for note in notes if note.kind == kind]
        if texts:
            lines += [f"  {heading}:", *(_fit(f"    - {text}", width) for text in texts)]
    return "\n".join(lines) + "\n"


def _fit(line: str, width: int | None) -> str:
    """Long words are not broken: they are paths and options that people copy."""
    if width is None:
        return line
    return textwrap.fill(line, width, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False)
