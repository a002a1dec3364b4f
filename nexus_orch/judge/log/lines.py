"""One line of a vLLM log, taken apart: process, level, module, message. All releases' formats, without wrappers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nexus_orch.judge.log.patterns import shipped_patterns

MAX_LINE_CHARACTERS = 16_384
"""What lies beyond is not read: the configuration dump, the longest line of vLLM's own, has about 6,000."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROCESS = re.compile(r"^\((?P<process>[A-Za-z]\w*[^)]*?) pid=(?P<pid>\d+)(?:, ip=[\w.:]+)?\) ?")
_RANK = re.compile(r"^(?:\[rank\d+\]: ?)")
_UVICORN = re.compile(r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): {1,9}")

# Other loggers: "2026-01-15 ... - vllm.engine - ERROR - message", "[INFO] message", "[ERROR|core.py:3] message".
_OTHER_LOGGER = re.compile(
    r"^(?:[-|:] ?)?(?:[\w.]+ ?[-|:] ?)?\[?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\b ?"
    r"(?:[-|: ]+(?P<module>[\w./<>-]+)(?::[\w<>.]+)?(?::\d+)?\]?[-|: ]{2,}|\|(?P<place>[\w./-]+):\d+\] ?"
    r"|\]:?[-| ]*|[-|] |:[\w.]+:)"
)


@dataclass(frozen=True)
class LogRecord:
    """A line of the log. `process` is None for lines without vLLM's process name, `level` for plain output."""

    text: str
    message: str
    process: str | None = None
    level: str | None = None
    module: str | None = None

    @property
    def is_routine(self) -> bool:
        """True for what is logged while all is well, and for warnings; False for errors and plain output."""
        return self.level in ("DEBUG", "INFO", "WARNING")

    @property
    def is_access(self) -> bool:
        """True for uvicorn's own lines, one for each request while the engine serves."""
        return self.level is not None and self.module is None

    @property
    def is_code(self) -> bool:
        """True for a frame of a traceback: a quoted source line is no message, whatever it says."""
        return self.message.startswith(("    ", "  File "))


def is_quoted(record: LogRecord) -> bool:
    """True for a line that repeats a request: its words are the user's, whatever they say."""
    return record.is_routine and record.message.startswith(
        ("Received request ", "Added request ", "Generated response ")
    )


def parse_line(text: str) -> LogRecord:
    """Take one line apart. Of a line that a progress bar has rewritten with carriage returns, the last state counts."""
    clean = _ANSI.sub("", text[:MAX_LINE_CHARACTERS]) if "\x1b" in text else text[:MAX_LINE_CHARACTERS]
    if "\r" in clean:
        clean = next((part for part in reversed(clean.split("\r")) if part.strip()), "")
    clean = clean.rstrip()
    found = shipped_patterns().prefix.match(clean)
    if found is not None:
        process = _name_process(found["process"], found["pid"])
        return LogRecord(clean, clean[found.end() :], process, found["level"], found["module"])
    return _parse_plain(clean)


def _parse_plain(text: str) -> LogRecord:
    """A line without vLLM's logging prefix: uvicorn's, a traceback's, a library's or a program's plain output."""
    process, rest = None, text
    named = _PROCESS.match(rest)
    if named is not None:
        process = _name_process(named["process"], named["pid"])
        rest = rest[named.end() :]
    ranked = _RANK.match(rest)
    if ranked is not None:
        rest = rest[ranked.end() :]
    server = _UVICORN.match(rest)
    if server is not None:
        return LogRecord(text, rest[server.end() :], process, server["level"])
    other = _OTHER_LOGGER.match(rest)
    if other is not None:
        module = other["module"] or other["place"] or "-"
        return LogRecord(text, rest[other.end() :], process, other["level"], module)
    return LogRecord(text, rest, process)


def _name_process(name: str | None, pid: str | None) -> str | None:
    if name is None:
        return None
    return name if pid is None else f"{name} pid={pid}"
