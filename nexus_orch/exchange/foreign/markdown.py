"""Documents with commands in fenced blocks: each block is a script of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.shell import Place, parse_script
from nexus_orch.exchange.foreign.windows import parse_powershell
from nexus_orch.exchange.start import Beside, Start
from nexus_orch.exchange.text.server import find_pinned_release

_FENCE = re.compile(r"^([ \t]*)(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\2[ \t]*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = frozenset({"", "bash", "sh", "shell", "console", "zsh", "shell-session", "text"})
_WINDOWS = frozenset({"powershell", "pwsh", "ps1"})
_PROMPT = re.compile(r"^[ \t]*(?:\([\w.-]+\)[ \t]*)?[$%>#][ \t]+(?=\S)", re.MULTILINE)


def has_fences(text: str) -> bool:
    return _FENCE.search(text) is not None


def parse_markdown(text: str, beside: Beside) -> list[Start]:
    """The starts in all blocks of shell text, else in those of YAML; what one of them installs is the release of all.
    A block that is broken is passed over unless no other one starts anything."""
    found: list[Start] = []
    releases: set[str] = set()
    problem: ConfigError | None = None
    for language, block, line in _blocks(text):
        if language not in _LANGUAGES | _WINDOWS:
            continue
        pinned = [find_pinned_release(words.split()) for words in block.splitlines()]
        releases |= {release for release in pinned if release is not None}
        try:
            if language in _WINDOWS:
                found += parse_powershell(block, beside)
            else:
                found += parse_script(block, Place(beside=beside), line=line)
        except ConfigError as error:
            problem = problem or error
    found = found or [start for language, block, _ in _blocks(text) for start in _in_yaml(language, block, beside)]
    if not found and problem is not None and "vllm" in text:
        raise problem
    release = next(iter(releases)) if len(releases) == 1 else None
    return [replace(start, release=start.release or release) for start in found]


def _blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """The language, the text and the first line of each block; prompts are taken away."""
    for match in _FENCE.finditer(text):
        language, block = match[3].lower(), match[4]
        if language in ("console", "shell-session") or _PROMPT.match(block):
            block = _PROMPT.sub("", block)
        yield language, block, text.count("\n", 0, match.start(4)) + 1


def _in_yaml(language: str, block: str, beside: Beside) -> list[Start]:
    from nexus_orch.exchange.foreign.sources import parse_documents  # noqa: PLC0415 - it reads Markdown itself

    return parse_documents(block, "the block", beside) if language in ("yaml", "yml") else []
