"""All starts in a log, by service: a container that restarts and a file that several servers share.

A start begins with vLLM's banner. It ends with the next one of the same server, or where the log of its container says
that it has exited. What others say of a service (a process that the kernel killed) belongs to the start that wrote
last.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from nexus_orch.judge.log.joined import Joiner
from nexus_orch.judge.log.lines import LogRecord, parse_line
from nexus_orch.judge.log.loops import FIRST_STARTS, LoopCounter
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.reading import LogReading, follow_record
from nexus_orch.judge.log.skim import Skimmer
from nexus_orch.judge.log.wrappers import Unwrapper

MAX_SERVICES = 32
LAST_SKIPPED = 4
MAX_KEPT_STARTS = 50
"""Of a crash loop that runs for days the first and the last starts are kept, the others counted."""

_EXITED = re.compile(
    r"^(?P<service>[\w.-]+) exited with code (?P<code>\d+)"
    r"|Main process exited, code=(?:exited|killed|dumped), status=(?P<status>\d+)"
)


@dataclass(frozen=True)
class LoggedStart:
    """One start. `exit_code` is what its container or its unit ended with, where the log says so."""

    reading: LogReading = field(default_factory=LogReading)
    has_banner: bool = False
    banners: frozenset[str] = frozenset()
    exit_code: int | None = None


@dataclass
class Service:
    """The starts of one server, in their order; the last one may still be on."""

    name: str
    ended: list[LoggedStart] = field(default_factory=list)
    dropped: int = 0
    """Starts that were counted and not kept."""
    last: LoggedStart = field(default_factory=LoggedStart)

    @property
    def count(self) -> int:
        """The number of starts."""
        return len(self.ended) + self.dropped + 1

    @property
    def is_vllm(self) -> bool:
        """True when vLLM has written here."""
        return any(start.reading.is_vllm for start in (*self.ended, self.last))

    def begin(self) -> None:
        """The last start is over, and another one follows."""
        self.ended.append(self.last)
        if len(self.ended) > MAX_KEPT_STARTS:
            del self.ended[MAX_KEPT_STARTS // 2]
            self.dropped += 1
        self.last = LoggedStart()


class History:
    """A log of any number of services and starts, read line by line."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self._unwrapper = Unwrapper()
        self._joiner = Joiner()
        self._skimmer = Skimmer()
        self._loop = LoopCounter()
        self._skipped: deque[str] = deque(maxlen=LAST_SKIPPED)
        self._latest = ""

    def add(self, text: str) -> None:
        """Read one more line."""
        if self._loop.is_on:
            self._leave_loop(self._loop.add(text))
        elif not self._enter_loop(text):
            self._add_line(text)

    def _enter_loop(self, text: str) -> bool:
        """True when starts are only counted from this line on: the only service has failed again and again."""
        if "version" not in text or len(self.services) != 1:
            return False
        (service,) = self.services.values()
        return service.count > FIRST_STARTS and self._loop.begin(text, service.name)

    def _leave_loop(self, lines: list[str]) -> None:
        if not lines:
            return
        (service,) = self.services.values()
        service.dropped, self._loop.count = service.dropped + self._loop.count, 0
        for line in lines:
            self._add_line(line)

    def _add_line(self, text: str) -> None:
        if self._skimmer.skips(text):
            self._skipped.append(text)
            return
        self._skipped.clear()
        for whole in self._joiner.add(text):
            self._add_whole(whole)

    def end(self) -> None:
        """Nothing more comes. Of what was skipped the last lines are read: they are the end of the log."""
        self._leave_loop(self._loop.end())
        for whole in (*self._joiner.end(), *self._skipped):
            self._add_whole(whole)

    def _add_whole(self, whole: str) -> None:
        lines = tuple(self._unwrapper.unwrap(whole))
        for line in lines:
            record = parse_line(line.text)
            self._add_record(record, line.service)
            if len(lines) == 1:
                self._skimmer.note(whole, record)

    def _add_record(self, record: LogRecord, service: str | None) -> None:
        exited = _EXITED.search(record.message) if "exited" in record.message else None
        if exited is not None:
            self._note_exit(exited, record)
            return
        name = self._latest if service is None or len(self.services) >= MAX_SERVICES else service
        self._latest = name
        held = self.services.setdefault(name, Service(name))
        held.last = _follow(held, record)

    def _note_exit(self, exited: re.Match[str], record: LogRecord) -> None:
        name = exited["service"] or self._latest
        held = self.services.get(name) or self.services.get(name.rsplit("-", 1)[0]) or self.services.get(self._latest)
        if held is not None:
            reading = follow_record(held.last.reading, record)
            held.last = replace(held.last, reading=reading, exit_code=int(exited["code"] or exited["status"]))


def read_history(lines: Iterable[str]) -> History:
    """The history that the lines of a log tell."""
    history = History()
    for line in lines:
        history.add(line)
    history.end()
    return history


def _follow(service: Service, record: LogRecord) -> LoggedStart:
    banner = _find_banner(record)
    is_vllm = record.module is not None or record.process is not None
    if _begins_anew(service.last, banner) if banner is not None else service.last.exit_code is not None and is_vllm:
        service.begin()
    start = service.last
    reading = follow_record(start.reading, record)
    if banner is None:
        return replace(start, reading=reading)
    return replace(start, reading=reading, has_banner=True, banners=start.banners | {banner})


def _find_banner(record: LogRecord) -> str | None:
    """What tells the banners of one start apart: their kind, and the process that wrote them."""
    if "version" not in record.message or not shipped_patterns().markers.new_start.match(record.message):
        return None
    kind = "api" if "API server version" in record.message else "picture"
    return f"{kind} {record.process or ''}"


def _begins_anew(start: LoggedStart, banner: str) -> bool:
    """True when a banner belongs to another start than the lines before it."""
    if start.exit_code is not None or banner in start.banners:
        return True
    return start.reading.is_over and (start.has_banner or start.reading.is_vllm)
