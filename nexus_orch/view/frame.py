"""One frame of the live view: a picture of the run as lines that fit a given size. Draws nothing by itself."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from rich.text import Text

from nexus_orch.types import Degraded, Failed, Ready, Stage, Starting, Stopped
from nexus_orch.view.meters import UNICODE, Glyphs, make_bar, make_gpu_lines, make_host_lines, make_server_lines
from nexus_orch.view.picture import STAGES_AHEAD, Level, Picture, ShownLine
from nexus_orch.view.proof import render_proof
from nexus_orch.view.words import render_bytes, render_duration, render_rate

LOG_LINES_WANTED = 5
"""The other sections give way until so many lines of the log can be seen."""
ANSWER_LINES, MESSAGES_SHOWN, PROGRESS_WIDTH = 6, 3, 20
MESSAGE_LINES = 3
"""What a message takes at most; `nexus report` has all of it."""
LEAST_WIDTH = 20
"""Messages are broken into lines for terminals down to this width; smaller ones cut them."""
PROOF, MESSAGES = "plan and measurement", "messages"

_LEVEL_STYLES: dict[Level, str] = {"plain": "", "warning": "yellow", "error": "bold red"}


def make_frame(picture: Picture, width: int, height: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """The lines of one frame: exactly `height`, each at most `width` cells wide."""
    top = [_title(picture, width, glyphs), _state(picture, width, glyphs), _stages(picture, width, glyphs)]
    hint = _hint(picture)
    body = _fit(_sections(picture, width, glyphs), room=height - len(top) - LOG_LINES_WANTED - 2)
    rows = max(0, height - len(top) - len(body) - 2)
    log = [_rule(_log_title(picture), width, glyphs), *map(_log_line, picture.last_lines(rows))]
    blank = [Text() for _ in range(rows + 1 - len(log))]
    frame = [*[*top, *body, *log, *blank][: max(0, height - 1)], hint]
    for line in frame:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return frame[:height]


def _sections(picture: Picture, width: int, glyphs: Glyphs) -> list[list[Text]]:
    """The filled sections in their order on the screen, each with its title in the first line."""
    latest = picture.record.latest
    lines: dict[str, Iterable[Text]] = {
        "GPU": make_gpu_lines(latest.gpus, width, glyphs),
        "host": make_host_lines(latest.host, width, glyphs) if latest.host else (),
        "server": make_server_lines(picture.metrics, width),
        PROOF: [Text(f" {line}", style="dim") for line in render_proof(picture.attempt.proof)],
        "answer": _answer_lines(picture),
        MESSAGES: _message_lines(list(picture.messages)[-MESSAGES_SHOWN:], width),
    }
    sections = [[_rule(title, width, glyphs), *found] for title, found in lines.items()]
    return [section for section in sections if len(section) > 1]


def _message_lines(messages: Iterable[str], width: int) -> Iterator[Text]:
    """Advice has its numbers at its end: a message goes on in further lines."""
    for text in messages:
        lines = textwrap.wrap(text, max(LEAST_WIDTH, width - 2), subsequent_indent="  ")
        if len(lines) > MESSAGE_LINES:  # the last one is cut like every line that is too long
            lines[MESSAGE_LINES - 1 :] = [" ".join(lines[MESSAGE_LINES - 1 :])]
        yield from (Text(f" {line}") for line in lines)


def _fit(sections: list[list[Text]], room: int) -> list[Text]:
    """As many lines as there is room for. The proof gives way first and as a whole, because half a table tells nothing
    and the run's last words repeat it. Then the last sections are shortened, down to one line each, messages by their
    oldest lines; the first one (the cards) is the last to give way, and says how much is missing."""
    excess = sum(map(len, sections)) - max(room, 0)
    for proof in [section for section in sections[1:] if PROOF in section[0].plain and excess > 0]:
        sections.remove(proof)
        excess -= len(proof)
    for section in reversed(sections[1:]):
        cut = min(max(excess, 0), len(section) - 2)
        start = 1 if MESSAGES in section[0].plain else len(section) - cut
        del section[start : start + cut]
        excess -= cut
    while excess > 0 and len(sections) > 1:
        excess -= len(sections.pop())
    if excess > 0 and sections:
        missing = min(excess + 1, len(sections[0]) - 1)
        sections[0][-missing:] = [Text(f" and {missing} more", style="dim")]
    return [line for section in sections for line in section]


def _rule(title: str, width: int, glyphs: Glyphs) -> Text:
    head = f"{glyphs.rule * 2} {title} "
    return Text(head + glyphs.rule * max(0, width - len(head)), style="dim")


def _sides(left: Text, right: Text, width: int) -> Text:
    """Two texts at the two ends of a line; the left one gives way."""
    left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis")
    left.pad_right(max(0, width - left.cell_len - right.cell_len))
    return left.append_text(right)


def _title(picture: Picture, width: int, glyphs: Glyphs) -> Text:
    record = picture.record
    engine = f"vLLM {record.engine_version}" if record.engine_version else ""
    rest = [part for part in (record.strategy, engine) if part]
    left = Text(" ").append(record.model or "nexus_orch", style="bold")
    left.append("".join(f"{glyphs.between}{part}" for part in rest))
    return _sides(left, Text(f"{picture.url} ", style="cyan"), width)


def _state(picture: Picture, width: int, glyphs: Glyphs) -> Text:
    name, style = _name_state(picture)
    line = Text(" ").append(f"{glyphs.dot} {name}", style=style)
    if picture.attempt.stage is not None:
        line.append(f"  {render_duration(picture.stage_seconds[picture.attempt.stage])}")
    match picture.verdict:
        case Starting(progress=progress, detail=detail):
            if progress is not None:
                line.append("  ").append_text(make_bar(progress, PROGRESS_WIDTH, glyphs, "cyan")).append(
                    f" {progress:.0%}"
                )
            line.append(f"  {_one_line(detail)}", style="dim")
        case Degraded(reason=reason) | Stopped(reason=reason):
            line.append(f"  {_one_line(reason)}")
        case Failed(evidence=evidence):
            line.append(f"  {_one_line(evidence[0])}" if evidence else "")
    number = picture.attempt.number
    attempt = f"attempt {number} " if number > 1 else ""
    return _sides(line, Text(attempt, style="yellow"), width)


def _name_state(picture: Picture) -> tuple[str, str]:
    match picture.verdict:
        case Ready():
            return "ready", "bold green"
        case Degraded():
            return "degraded", "bold yellow"
        case Failed(cause=cause):
            return f"failed: {cause}", "bold red"
        case Stopped():
            return "stopped", "bold"
    return (picture.attempt.stage or Stage.STARTING).value, "bold cyan"


def _stages(picture: Picture, width: int, glyphs: Glyphs) -> Text:
    """All stages in one line, with their durations where there is room for them."""
    timed = _stage_marks(picture, glyphs, timed=True)
    return timed if timed.cell_len <= width else _stage_marks(picture, glyphs, timed=False)


def _stage_marks(picture: Picture, glyphs: Glyphs, *, timed: bool) -> Text:
    line, took, current = Text(" "), picture.stage_seconds, picture.attempt.stage
    for stage in Stage:
        if stage in STAGES_AHEAD and stage not in took:
            continue
        mark, style = glyphs.open, "dim"
        if stage == current:
            mark, style = (glyphs.dot, "green") if stage == Stage.READY else (glyphs.now, "bold cyan")
        elif stage in took:
            mark, style = glyphs.done, "green"
        seconds = took.get(stage) if timed and stage not in (Stage.READY, current) else None
        shown = "" if seconds is None else f" {render_duration(seconds)}"
        line.append(f"{mark} {stage.value}{shown}  ", style=style)
    line.rstrip()
    return line


def _answer_lines(picture: Picture) -> list[Text]:
    answer = picture.record.answer
    if answer is None:
        return []
    style = "bold" if answer.ok else "red"
    lines = [line for line in answer.detail.splitlines() if line.strip()][:ANSWER_LINES]
    rate = answer.values.get("tokens_per_second")
    shown = [Text(f" {line}", style=style) for line in lines]
    return shown if rate is None else [*shown, Text(f" {render_rate(rate)} tokens/s", style="dim")]


def _log_title(picture: Picture) -> str:
    dropped = picture.record.latest.dropped_bytes
    return f"log ({render_bytes(dropped)} dropped)" if dropped else "log"


def _log_line(line: ShownLine) -> Text:
    text = Text(" ")
    if line.process:
        text.append(f"{line.process} ", style="dim")
    return text.append(line.text, style=_LEVEL_STYLES[line.level])


def _hint(picture: Picture) -> Text:
    return Text(f" Ctrl-C stops   the whole log: nexus logs {picture.record.id}".rstrip(), style="dim")


def _one_line(text: str) -> str:
    return " ".join(text.split())
