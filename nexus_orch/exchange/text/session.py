"""Text copied from a terminal: the commands behind the prompts, without what the terminal printed."""

from __future__ import annotations

import re

_PROMPT = re.compile(
    r"[ \t]*(?:\([\w.+-]+\)[ \t]*)*(?:[\w.-]+@[\w.-]+(?::[^\s$#%>]*|[ \t][^\s$#%>]+)?[$#%>❯]|[$❯])[ \t]+(?=[^\s=])"
)
"""`$ `, `(venv) user@host:~/x$ `, `root@host:/# `; a lone `#` or `>` is a comment or a redirection."""
_GOES_ON = re.compile(r"[ \t]*>[ \t]?")
_FIRST = re.compile(r"\A(?:[ \t]*(?:#[^!\n][^\n]*)?\r?\n)*")


def commands_of(text: str) -> str:
    """The text as a script. What a session shows beside its commands becomes empty lines, so that lines keep their
    numbers; text that begins with no prompt is a script already."""
    first = _FIRST.match(text)
    if _PROMPT.match(text, first.end() if first is not None else 0) is None:
        return text
    lines: list[str] = []
    is_continued = False
    for line in text.splitlines():
        prompt = _PROMPT.match(line)
        if is_continued:
            shown = _GOES_ON.match(line)
            lines.append(line[shown.end() :] if shown is not None else line)
        elif prompt is not None:
            lines.append(line[prompt.end() :])
        else:
            lines.append("")
            continue
        is_continued = lines[-1].rstrip().endswith("\\") or _is_open(lines[-1])
    return "\n".join(lines) + "\n"


def _is_open(line: str) -> bool:
    """Whether a quote that begins in this line goes on in the next one."""
    plain = re.sub(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", "", line)
    return "'" in plain or '"' in plain
