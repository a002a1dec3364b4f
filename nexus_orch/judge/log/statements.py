"""The further lines of a statement: an exception with several lines, what a library adds below its first line.

A statement is a line that will be shown as evidence. What the same process says directly behind it, in the same voice
(the same place in the sources, or plain output as before), belongs to it until a frame, a traceback or another
exception comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nexus_orch.judge.log.lines import LogRecord
from nexus_orch.judge.log.tracebacks import EXCEPTION, TRACEBACK

MAX_FURTHER_LINES = 4
MAX_STATEMENTS = 24
MAX_FURTHER_CHARACTERS = 400

# What libraries print below every error of theirs, whatever it was.
_IDLE = re.compile(
    r"^\s*(?:For further information visit|For debugging consider passing|Compile with `TORCH_USE|CUDA kernel errors "
    r"might|Device-side assertion tracking|Search for `cuda|HIP kernel errors|For more information|If you believe"
    r"|Set TORCHDYNAMO_VERBOSE|Set TORCH_LOGS|[-=~^#*.]+\s*$"
    r"|(?:class_name|actor_id|pid|namespace|ip|task_name|task_id|name|worker_id|node_id): )"
)
_ENDS = re.compile(
    r"^(?:Exception raised from|frame #\d|Process \S+:$|During handling|The above exception|usage: "
    r"|Exception ignored in|Exception in thread|\[?(?:DEBUG|INFO|WARNING)\b|\[rank\d+\]:|\[[WIE]\d{3}|#\d+ 0x)"
    r"|: [A-Z]\w*Warning: |\d%\||Completed \||root cause above|tack trace"
)


@dataclass(frozen=True)
class Statement:
    """The first line of a statement as it is shown, and whose voice said it."""

    head: str
    level: str | None
    module: str | None


@dataclass(frozen=True)
class Statements:
    """Statements that may go on, by process, and the further lines of all, by their first."""

    open: Mapping[str, Statement] = field(default_factory=dict)
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_further(self, head: str) -> tuple[str, ...]:
        """A first line with those that belong to it."""
        return (head, *self.further.get(head, ()))


def begin_statement(statements: Statements, record: LogRecord, head: str) -> Statements:
    """A line that will be shown has come; `head` is the line as it is shown."""
    if len(statements.further) >= MAX_STATEMENTS:
        return statements
    opened = Statement(head, record.level, record.module)
    return Statements({**statements.open, record.process or "": opened}, statements.further)


def follow_statement(statements: Statements, record: LogRecord) -> Statements:
    """The statements after one more line: it belongs to one of them, says nothing, or ends it."""
    process = record.process or ""
    opened = statements.open.get(process)
    if opened is None or not record.message.strip() or _IDLE.match(record.message):
        return statements
    known = statements.further.get(opened.head, ())
    if not _continues(opened, record) or len(known) == MAX_FURTHER_LINES:
        return end_statement(statements, process)
    text = record.message.strip()[:MAX_FURTHER_CHARACTERS]
    return Statements(statements.open, {**statements.further, opened.head: (*known, text)})


def end_statement(statements: Statements, process: str) -> Statements:
    """A frame has come: what the process said before is over."""
    if process not in statements.open:
        return statements
    kept = {name: opened for name, opened in statements.open.items() if name != process}
    return Statements(kept, statements.further)


def _continues(opened: Statement, record: LogRecord) -> bool:
    voice = (record.level, record.module)
    if voice not in ((opened.level, opened.module), (None, None)):
        return False
    message = record.message
    return TRACEBACK not in message and EXCEPTION.match(message) is None and _ENDS.search(message) is None
