"""What a misspelt name probably meant: one measure of nearness and one wording for all messages. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

NEAR = 0.6
"""How similar two names must be, from 0 to 1, by difflib's ratio: twice the letters in common over all letters.

difflib's own default: one wrong, missing or turned letter in a name of four still counts, another word does not."""
_LEAST_PART = 2
"""A written name that is a part of a known one counts too, from so many letters on: qwen for qwen2_5_coder_32b."""


def find_near(written: str, known: Iterable[str], count: int = 1, least: float = NEAR) -> list[str]:
    """The known names that look most like the written one, at most `count`, the most similar first.

    Capitals count as small letters, and - as _. None is near: the list is empty.
    """
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(_fold(name), name)
    wanted = _fold(written)
    near = difflib.get_close_matches(wanted, folded, n=count, cutoff=least)
    if not near and len(wanted) >= _LEAST_PART:
        near = sorted((name for name in folded if wanted in name), key=len)[:count]
    return [folded[name] for name in near]


def suggest(written: str, known: Iterable[str], count: int = 1, before: str = "") -> str:
    """The question "did you mean X?" for a misspelt name, each name after the words `before`; "" when none is near."""
    return did_you_mean([f"{before}{name}" for name in find_near(written, known, count)])


def suggest_or_list(written: str, known: Sequence[str], listed: str = "one of", before: str = "") -> str:
    """The question "did you mean X?", else all known names after the word `listed`."""
    return suggest(written, known, before=before) or f"{listed}: {', '.join(known) or 'none'}"


def did_you_mean(names: Sequence[str]) -> str:
    """The question for names that were found in another way; "" for none."""
    return f"did you mean {' or '.join(names)}?" if names else ""


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
