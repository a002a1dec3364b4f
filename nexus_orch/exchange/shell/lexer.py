"""The words of shell text: quotes, escapes, expansions and placeholders. Nothing is expanded here."""

from __future__ import annotations

import re

from nexus_orch.exchange.shell.tree import Output, Part, ShellParameter, Sum, Text, Word
from nexus_orch.exchange.start import REFERENCE, broken, make_reference
from nexus_orch.exchange.text.placeholders import PLACEHOLDER_MARK

_NAME = re.compile(r"[A-Za-z_]\w*|\d+|[@*#?$!-]")
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*|\d|[@*#?$!-]")
PLACEHOLDER = re.compile(r"<(?=[A-Za-z_])[^<>\n|;&(){}$`'\"]{0,80}?(?<![ \t])(?<![ \t]\d)>")
"""`<your model>`: no redirection is written so, and people forget to replace it."""
BROKEN_CONTINUATION = re.compile(
    r"\\(?:[ \t]+(?:#[^\n]*)?\r?\n(?![ \t]*\r?\n)"
    r"|[ \t]*\r?\n(?:[ \t]*\r?\n)+(?=[ \t]*(?:[-$\"'#\d{<.\\/]|[\w.-]+[/:])))"
)
"""A blank or a comment after the backslash, or an empty line after it: the shell ends the command there, the writer
did not mean to. What follows an empty line must look like more of the command."""
_CONTINUED = re.compile(r"\\\r?\n")
WEB_BLANKS = "\u00a0\u2007\u202f"
"""Blanks of web pages: no shell takes them for blanks, and people paste them."""
_INVISIBLE = "\u200b\u2060\ufeff"
_METACHARACTERS = frozenset(" \t\r\n;&|()<>" + WEB_BLANKS)
_RUN = re.compile("[^\\\\'\"$`\\s;&|()<>\x01\u200b\u2060\ufeff]+")
_QUOTED_RUN = re.compile('[^\\\\"$`\x01]+')
_DEEPEST = 60
_MOST_UNCLOSED = 50
"""So many brackets that are never closed are searched for their end; each search reads the whole text."""


class Cursor:
    """A place in shell text, with the line that it is on."""

    def __init__(self, text: str, line: int = 1, depth: int = 0) -> None:
        self.text = text
        self.position = 0
        self.line = line
        self.depth = depth
        self.notes: list[str] = []
        self.unclosed_brackets = 0
        if depth > _DEEPEST:
            raise broken(
                f"the shell text is nested more than {_DEEPEST} times",
                "pass the command itself: nexus import -- vllm serve MODEL ...",
            )

    @property
    def is_done(self) -> bool:
        return self.position >= len(self.text)

    def peek(self, count: int = 1) -> str:
        return self.text[self.position : self.position + count]

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self.text, self.position)

    def take(self, count: int) -> str:
        """The next characters; the line is counted."""
        taken = self.text[self.position : self.position + count]
        self.line += taken.count("\n")
        self.position += len(taken)
        return taken

    def take_until(self, end: int) -> str:
        return self.take(end - self.position)

    def unclosed(self, mark: str, line: int) -> Exception:
        return broken(f"a quote ({mark}) in line {line} is never closed", "close it, or escape it with a backslash")


def skip_continuation(cursor: Cursor) -> bool:
    """Whether a continued line was passed over here, one that the shell would not see as continued included."""
    plain, wrong = cursor.match(_CONTINUED), cursor.match(BROKEN_CONTINUATION)
    if wrong is not None:
        is_comment = wrong[0][1:].lstrip(" \t").startswith("#")
        what = "a comment" if is_comment else "a blank" if wrong[0][1] in " \t" else "an empty line"
        cursor.notes.append(
            f"line {cursor.line}: {what} after the backslash ends the command there for a shell; read as if it went on"
        )
        cursor.take(len(wrong[0]))
        return True
    if plain is not None:
        cursor.take(len(plain[0]))
        return True
    return False


def read_word(cursor: Cursor) -> Word | None:
    """The word at the cursor, None when none begins there. Raises ConfigError for quotes that are not closed."""
    line = cursor.line
    parts: list[Part] = []
    while not cursor.is_done:
        placed = cursor.match(PLACEHOLDER) if cursor.peek() == "<" else None
        if placed is not None:
            parts.append(Text(PLACEHOLDER_MARK + cursor.take(len(placed[0])), is_quoted=True))
        elif cursor.peek() in _METACHARACTERS:
            break
        elif cursor.peek() in _INVISIBLE:
            cursor.take(1)
        elif cursor.peek() == "\\" and skip_continuation(cursor):
            if cursor.peek() in " \t":
                break
        else:
            parts += _read_piece(cursor)
    return Word(tuple(_joined(parts)), line) if parts else None


def parse_quoted(text: str, line: int = 1, depth: int = 0) -> Word:
    """Text as it stands between double quotes (or in a here-document) as one word."""
    cursor = Cursor(text, line, depth)
    parts: list[Part] = []
    while not cursor.is_done:
        parts += _read_quoted_piece(cursor)
    return Word(tuple(_joined(parts)) or (Text("", is_quoted=True),), line)


def parse_value(text: str, line: int = 1, depth: int = 0, *, is_quoted: bool) -> Word:
    """The word behind `:-` and its like: blanks belong to it."""
    if is_quoted:
        return parse_quoted(text.replace('"', ""), line, depth)
    cursor = Cursor(text, line, depth)
    parts: list[Part] = []
    while not cursor.is_done:
        if cursor.peek() in _METACHARACTERS:
            parts.append(Text(cursor.take(1)))
        else:
            parts += _read_piece(cursor)
    return Word(tuple(_joined(parts)), line)


def _joined(parts: list[Part]) -> list[Part]:
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text) and part.is_quoted == last.is_quoted:
            joined[-1] = Text(last.text + part.text, part.is_quoted)
        else:
            joined.append(part)
    return joined


def _read_piece(cursor: Cursor) -> list[Part]:
    char = cursor.peek()
    if char == "\\":
        cursor.take(1)
        return [Text(cursor.take(1) or "\\", is_quoted=True)]
    if char and char in "'\"":
        return _read_double(cursor) if char == '"' else [Text(_read_single(cursor), is_quoted=True)]
    if (kept := cursor.match(REFERENCE)) is not None:  # made by what filled in the text before
        return [Text(cursor.take(len(kept[0])), is_quoted=True)]
    if char == "$":
        return [_read_dollar(cursor, is_quoted=False)]
    if char == "`":
        return [Output(_read_backticks(cursor))]
    run = cursor.match(_RUN)
    return [Text(cursor.take(len(run[0]) if run is not None else 1))]


def _read_single(cursor: Cursor) -> str:
    line = cursor.line
    end = cursor.text.find("'", cursor.position + 1)
    if end < 0:
        raise cursor.unclosed("'", line)
    return cursor.take_until(end + 1)[1:-1]


def _read_double(cursor: Cursor) -> list[Part]:
    line = cursor.line
    cursor.take(1)
    parts: list[Part] = [Text("", is_quoted=True)]
    while cursor.peek() != '"':
        if cursor.is_done:
            raise cursor.unclosed('"', line)
        parts += _read_quoted_piece(cursor)
    cursor.take(1)
    return parts


def _read_quoted_piece(cursor: Cursor) -> list[Part]:
    char = cursor.peek()
    if char == "\\":
        following = cursor.text[cursor.position + 1 : cursor.position + 2]
        if following in ('"', "\\", "$", "`", "\n") and following:
            cursor.take(2)
            return [Text("" if following == "\n" else following, is_quoted=True)]
        return [Text(cursor.take(1), is_quoted=True)]
    if char == "$":
        return [_read_dollar(cursor, is_quoted=True)]
    if char == "`":
        return [Output(_read_backticks(cursor), is_quoted=True)]
    if (kept := cursor.match(REFERENCE)) is not None:
        return [Text(cursor.take(len(kept[0])), is_quoted=True)]
    run = cursor.match(_QUOTED_RUN)
    return [Text(cursor.take(len(run[0]) if run is not None else 1), is_quoted=True)]


def _read_dollar(cursor: Cursor, *, is_quoted: bool) -> Part:
    bracket = cursor.text[cursor.position + 1 : cursor.position + 2]
    if bracket in ("(", "{") and bracket:
        end = _closing(cursor, 1, bracket, ")" if bracket == "(" else "}")
        if end is not None:
            return _bracketed(cursor.take_until(end + 1), is_quoted=is_quoted)
    if bracket in ("'", '"') and bracket and not is_quoted:
        cursor.take(1)
        return Text(_read_ansi(cursor) if bracket == "'" else "", is_quoted=True)
    name = _PLAIN_NAME.match(cursor.text, cursor.position + 1)
    if name is None:
        return Text(cursor.take(1), is_quoted=True)
    cursor.take(1 + len(name[0]))
    return ShellParameter(name[0], "", is_quoted)


def _bracketed(text: str, *, is_quoted: bool) -> Part:
    """`$((...))`, `$(...)` or `${...}`."""
    if text.startswith("$((") and text.endswith("))"):
        return Sum(text[3:-2], is_quoted)
    if text.startswith("${{"):  # filled in by a workflow before any shell sees it
        return Text(make_reference(text), is_quoted=True)
    return Output(text[2:-1].strip(), is_quoted) if text.startswith("$(") else _parameter(text[2:-1], is_quoted)


def _parameter(inside: str, is_quoted: bool) -> Part:
    is_length = inside.startswith("#") and len(inside) > 1
    is_indirect = inside.startswith("!") and len(inside) > 1
    body = inside[1:] if is_length or is_indirect else inside
    name = _NAME.match(body)
    if name is None or is_indirect:  # ${env:X} of another shell, ${!NAME}: shown as it stands
        return ShellParameter(inside or "{}", "", is_quoted)
    return ShellParameter(name[0], body[len(name[0]) :], is_quoted, is_length)


def _read_ansi(cursor: Cursor) -> str:
    """$'...' with its escapes."""
    line = cursor.line
    match = re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL).match(cursor.text, cursor.position)
    if match is None:
        raise cursor.unclosed("$'", line)
    cursor.take(len(match[0]))
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), match[1], flags=re.DOTALL)


def _read_backticks(cursor: Cursor) -> str:
    line = cursor.line
    end = cursor.text.find("`", cursor.position + 1)
    if end < 0:
        raise cursor.unclosed("`", line)
    return cursor.take_until(end + 1)[1:-1].strip()


def _closing(cursor: Cursor, offset: int, opens: str, closes: str) -> int | None:
    """Where the bracket that stands at the offset is closed; None when it never is. Quotes hide brackets."""
    if cursor.unclosed_brackets > _MOST_UNCLOSED:
        return None
    depth, quote = 0, ""
    position = cursor.position + offset
    text = cursor.text
    while position < len(text):
        char = text[position]
        if char == "\\" and quote != "'":
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and not (char == "'" and opens == "{"):
            quote = char
        elif char == opens:
            depth += 1
        elif char == closes:
            depth -= 1
            if depth == 0:
                return position
        position += 1
    cursor.unclosed_brackets += 1
    return None
