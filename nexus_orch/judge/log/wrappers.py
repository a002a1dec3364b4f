"""What others put around the lines of a log: containers, journals, log shippers, terminals, quotes.

Known wrappers are taken off by their form. Others are found by structure: when something that only the engine or Python
writes ("INFO 01-15 09:00:00 [core.py:1]", "Traceback (most recent call last):", a frame) stands behind a text, that
text is a wrapper, and lines that begin with a text of the same shape lose it, too. Pure: the state is the `Unwrapper`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_WRAPPER_CHARACTERS = 160
MAX_LEARNED = 12
_JSON_FIELDS = ("log", "message", "msg", "MESSAGE", "textPayload", "line", "text", "content", "body", "data", "event")
_JSON_HOLDERS = ("jsonPayload", "attributes", "record", "body", "data")
_JSON_SERVICES = ("service", "container_name", "container", "pod", "pod_name", "app")
_JSON_DEPTH = 3

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\^\[\[[0-9;]*m|\[(?:[0-9;]{1,9})m(?=\S)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x7f\ufeff]+")

_TIME = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?Z| ?[+-]\d\d:?\d\d)?"
_JOURNAL_TIME = rf"(?:[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d|{_TIME})"
_KNOWN = tuple(
    re.compile(pattern)
    for pattern in (
        r"\[pod/(?P<service>[^\]\s]+)\] ?",
        r"\[(?P<service>[A-Za-z][\w.-]{0,60})\] +\| ?",
        r"(?P<service>[A-Za-z0-9][\w.-]{0,60}) +\| ?(?!-?\d)",
        r"(?P<service>[a-z][a-z0-9.-]{2,80}-[a-z0-9]{4,10}-[a-z0-9]{5}) (?:[a-z][\w.-]{0,50} )(?:[›|>] )?",
        rf"{_JOURNAL_TIME} [\w.-]+ (?P<service>[\w@.:/-]+?)(?:\[\d+\])?: ",
        rf"\[?{_TIME}\]? (?:std(?:out|err) [FP] )?",
        r"[│┃║|▌] ?(?=.*[│┃║|▌▐] *$)",
        r"(?:std(?:out|err)[:|] ?)",
    )
)
_BOX_END = re.compile(r" *[│┃║|▌▐] *$")
_NOT_OWN = frozenset({"kernel", "systemd", "dockerd", "containerd", "kubelet", "sudo", "audit", "podman"})
"""What the system says of a service stands among its lines, not in a log of its own."""

# What only vLLM, uvicorn or Python's tracebacks write.
_CORE = re.compile(
    r"(?:\([A-Za-z]\w*[^()]{0,60}? pid=\d+(?:, ip=[\w.:]+)?\) ?)?"
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) (?:\d{4}[-/])?\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S{0,12} \[?[\w./<>-]+:\d+\]"
    r"|Traceback \(most recent call last\):"
    r"|  File \"[^\"\n]+\", line \d+"
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL): {4,9}\S)"
    r"|\([A-Za-z]\w*[^()]{0,60}? pid=\d+(?:, ip=[\w.:]+)?\) "
    r"|\[rank\d+\]:"
)
# A beginning that vLLM's logger writes: a text with several of them lost its line ends.
_BEGINNING = re.compile(
    r"(?:\([A-Za-z]\w*[^()]{0,60}? pid=\d+(?:, ip=[\w.:]+)?\) ?)+"
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d\S{0,12} \[?[\w./<>-]+:\d+\])?"
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d\S{0,12} \[?[\w./<>-]+:\d+\]"
)
LEAST_JOINED = 3
LEAST_JOINED_CHARACTERS = 200
_OUTER = re.compile(r"\([A-Za-z]\w*[^()]{0,60}? pid=\d+(?:, ip=[\w.:]+)?\) (?=\([A-Za-z]\w*[^()]{0,60}? pid=\d+)")
"""Of nested names of processes the innermost wrote the line."""
_HEAD_HINTS = (" pid=", "Traceback (", "  File ", "INFO", "ERROR", "WARNING", "DEBUG", "CRITICAL", "[rank")
_SAYS_SOMETHING = re.compile(
    r"rror|xception|raise|failed|process |worker [a-zA-Z]|while |[a-z]{3,} [a-z]{3,} [a-z]{3,}"
)
_TOKEN = re.compile(r"\d[0-9a-fA-F]*|[0-9a-f]{8,}| +|\b(?:INFO|WARN|WARNING|ERROR|DEBUG|stdout|stderr|[EWIF])\b|.")
_LOGFMT = re.compile(r"(?:^|\s)(?:msg|message|log)=\"((?:[^\"\\]|\\.)*)\"")
_FIELD = re.compile(r"\s*\"(?:textPayload|message|log|msg|line|MESSAGE)\": ?(\"(?:[^\"\\]|\\.)*\"),?\s*$")


class Unwrapped(NamedTuple):
    """A line as the engine wrote it, and the service that the wrapper names; None where it names none."""

    text: str
    service: str | None = None


class Unwrapper:
    """Takes wrappers off line by line, and learns those that nobody listed."""

    def __init__(self) -> None:
        self._learned: dict[str, re.Pattern[str]] = {}

    def unwrap(self, text: str) -> Iterator[Unwrapped]:
        """The engine's line in a line of the log: one, but several in a JSON text with line ends, none in an empty."""
        text = clean(text)
        held = _parse_structured(text)
        if held is None:
            yield from (self._unwrap_text(line) for line in split_joined(text))
            return
        content, service = held
        for line in content.rstrip("\n").split("\n"):
            inner = self._unwrap_text(clean(line))
            yield Unwrapped(inner.text, inner.service or service)

    def _unwrap_text(self, text: str) -> Unwrapped:
        rest, service = _strip_known(text)
        while (outer := _OUTER.match(rest)) is not None:
            rest = rest[outer.end() :]
        if _CORE.match(rest):
            return Unwrapped(rest, service)
        head = rest[: 2 * MAX_WRAPPER_CHARACTERS]
        if any(hint in head for hint in _HEAD_HINTS):
            found = _CORE.search(rest, 0, 2 * MAX_WRAPPER_CHARACTERS)
            if found is not None and self._learn(rest[: found.start()]):
                return Unwrapped(rest[found.start() :], service)
        for pattern in self._learned.values():
            wrapper = pattern.match(rest)
            if wrapper is not None:
                return Unwrapped(rest[wrapper.end() :], service)
        return Unwrapped(rest, service)

    def _learn(self, prefix: str) -> bool:
        """Remember a wrapper by its shape; False when the text before the engine's own is no wrapper."""
        if not prefix or len(prefix) > MAX_WRAPPER_CHARACTERS or _SAYS_SOMETHING.search(prefix):
            return not prefix
        if not prefix.strip():
            return False
        shape = "".join(_generalize(token) for token in _TOKEN.findall(prefix))
        if shape not in self._learned and len(self._learned) < MAX_LEARNED:
            self._learned[shape] = re.compile(shape)
        return True


def split_joined(text: str) -> list[str]:
    """The lines of a text that lost its line ends, as what is copied from a page does; most often the text itself."""
    if len(text) < LEAST_JOINED_CHARACTERS or text.count(" pid=") + text.count("] ") < LEAST_JOINED:
        return [text]
    starts = [found.start() for found in _BEGINNING.finditer(text)]
    if len(starts) < LEAST_JOINED or "equest" in text[: starts[1]]:
        return [text]
    ends = [*starts[1:], len(text)]
    return [
        line for line in (text[: starts[0]], *map(lambda start, end: text[start:end], starts, ends)) if line.strip()
    ]


def holds_core(text: str) -> bool:
    """True when something that only the engine or Python writes stands in a line's first part."""
    return _CORE.search(text, 0, 2 * MAX_WRAPPER_CHARACTERS) is not None


def clean(text: str) -> str:
    """A line without colours and control characters."""
    if "\x1b" in text or "^[[" in text or ("m" in text[:40] and "[" in text[:12]):
        text = _ANSI.sub("", text).removesuffix("^M")
    return text if text.isprintable() else _CONTROL.sub("", text)


def _generalize(token: str) -> str:
    """A pattern for the tokens that may stand at a token's place in another line."""
    if token[0].isdigit() or (len(token) >= 8 and token.isalnum()):
        return "[0-9a-fA-F]+"
    if token[0] == " ":
        return " +" if len(token) > 1 else " "
    if token in ("INFO", "WARN", "WARNING", "ERROR", "DEBUG", "stdout", "stderr", "E", "W", "I", "F"):
        return r"\w+"
    return re.escape(token)


def _strip_known(text: str) -> tuple[str, str | None]:
    """The text without known wrappers, and the innermost service that one of them names."""
    service: str | None = None
    for _ in range(4):
        if _CORE.match(text):
            break
        found = next((found for pattern in _KNOWN if (found := pattern.match(text))), None)
        if found is None or found.end() == 0:
            break
        name = found.groupdict().get("service")
        if name is not None and name not in _NOT_OWN:
            service = name
        text = text[found.end() :]
        if found[0][0] in "│┃║|▌":
            text = _BOX_END.sub("", text)
    return text, service


def _parse_structured(text: str) -> tuple[str, str | None] | None:
    """The message in a JSON object, a line of a printed JSON object or a logfmt line; None when it is none of them."""
    start = text.find("{", 0, MAX_WRAPPER_CHARACTERS)
    if start >= 0 and text.endswith("}") and '"' in text:
        try:
            held = json.loads(text[start:])
        except ValueError:
            held = None
        found = _find_message(held)
        if found is not None:
            return found, _find_service(held)
    if '"' not in text:
        return None
    field = _FIELD.match(text)
    if field is not None:
        try:
            return str(json.loads(field[1])), None
        except ValueError:
            return None
    logfmt = _LOGFMT.search(text) if "=" in text and _CORE.match(text) is None else None
    if logfmt is None:
        return None
    return logfmt[1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\"), None


def _find_message(held: Any, depth: int = 0) -> str | None:
    if not isinstance(held, dict) or depth > _JSON_DEPTH:
        return None
    for name in _JSON_FIELDS:
        if isinstance(held.get(name), str):
            return str(held[name])
    inner = (_find_message(held.get(name), depth + 1) for name in _JSON_HOLDERS)
    return next((text for text in inner if text is not None), None)


def _find_service(held: dict[str, Any]) -> str | None:
    kubernetes = held.get("kubernetes")
    if isinstance(kubernetes, dict) and isinstance(kubernetes.get("pod_name"), str):
        return str(kubernetes["pod_name"])
    names = (held.get(name) for name in _JSON_SERVICES)
    return next((name for name in names if isinstance(name, str)), None)
