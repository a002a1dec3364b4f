"""Shell text to a tree. What cannot be understood is read as plain commands: a script is imported, not checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from nexus_orch.exchange.shell.lexer import PLACEHOLDER, WEB_BLANKS, Cursor, parse_quoted, read_word, skip_continuation
from nexus_orch.exchange.shell.tree import (
    AndOr,
    Assignment,
    Calculation,
    Case,
    For,
    Function,
    Group,
    If,
    Loop,
    Node,
    Pipeline,
    Redirect,
    Simple,
    Test,
    Text,
    Word,
)
from nexus_orch.exchange.start import broken

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[([^\]\n]*)\])?(\+?)=")
_FUNCTION = re.compile(r"([A-Za-z_][\w.:-]*)[ \t]*\([ \t]*\)")
_KEYWORD_FUNCTION = re.compile(r"function[ \t]+([A-Za-z_][\w.:-]*)(?:[ \t]*\([ \t]*\))?")
_REDIRECT = re.compile(r"(?:\d+|\{\w+\})?(&>>|&>|>>|>\||>&|<<<|<<-?|<&|<>|>|<)")
_JOINT = re.compile(r"&&|\|\|")
_TEST = re.compile(r"\[\[(?=\s)")
_ENDS = frozenset({"then", "elif", "else", "fi", "do", "done", "esac", "}", ")", ";;"})
_BLANKS = " \t\r" + WEB_BLANKS
_DEEPEST = 60


def parse(text: str, line: int = 1) -> tuple[tuple[Node, ...], list[str]]:
    """The commands of a script, and what is to be said about how it is written.

    Raises ConfigError for quotes that are not closed and for commands nested too deep.
    """
    parser = _Parser(Cursor(text, line))
    nodes: list[Node] = []
    while not parser.cursor.is_done:
        nodes += parser.read_list(frozenset())
        if not parser.cursor.is_done:
            parser.cursor.take(1)  # an end without a beginning
    return tuple(nodes), parser.cursor.notes


class _Parser:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.depth = 0
        self.documents: list[tuple[str, bool, list[Redirect]]] = []

    # -- blanks and ends

    def skip_blanks(self, *, lines: bool = False) -> None:
        """Blanks, comments and continued lines; ends of lines too when asked for."""
        cursor = self.cursor
        while not cursor.is_done:
            char = cursor.peek()
            if char in _BLANKS or (lines and char in "\n;&" and cursor.peek(2) not in ("&&", ";;")):
                if char == "\n":
                    self.take_line_end()
                else:
                    cursor.take(1)
            elif char == "#":
                self.skip_comment()
            elif char != "\\" or not skip_continuation(cursor):
                return

    def skip_comment(self) -> None:
        end = self.cursor.text.find("\n", self.cursor.position)
        self.cursor.take_until(len(self.cursor.text) if end < 0 else end)

    def take_line_end(self) -> None:
        """The end of a line; bodies of here-documents that were announced on it follow."""
        self.cursor.take(1)
        for mark, strips, redirects in self.documents:
            redirects.append(self.read_document(mark, strips=strips))
        self.documents.clear()

    def read_document(self, mark: str, *, strips: bool) -> Redirect:
        cursor, line, lines = self.cursor, self.cursor.line, []
        is_quoted = mark.startswith("'")
        end = mark[1:] if is_quoted else mark
        while not cursor.is_done:
            stop = cursor.text.find("\n", cursor.position)
            text = cursor.take_until(len(cursor.text) if stop < 0 else stop)
            cursor.take(1)
            text = text.removesuffix("\r")
            if (text.lstrip("\t") if strips else text).rstrip() == end:
                break
            lines.append(text.lstrip("\t") if strips else text)
        body = "\n".join(lines) + "\n"
        word = Word((Text(body, is_quoted=True),), line) if is_quoted else parse_quoted(body, line)
        return Redirect("<<", None, word)

    def at_word(self) -> str | None:
        """The keyword-like word at the cursor, without taking it."""
        match = re.compile(r"[^\s;&|()<>\"'$`\\]+").match(self.cursor.text, self.cursor.position)
        return match[0] if match else None

    # -- lists

    def read_list(self, ends: Collection[str]) -> tuple[Node, ...]:
        """Commands up to one of these words, which is not taken."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise broken(
                f"commands are nested more than {_DEEPEST} times",
                "pass the command itself: nexus import -- vllm serve MODEL ...",
            )
        nodes: list[Node] = []
        while True:
            self.skip_blanks(lines=True)
            if self.cursor.is_done or self.is_at(ends):
                break
            before = self.cursor.position
            node = self.read_and_or()
            if node is not None:
                nodes.append(node)
            if self.cursor.position == before:
                if ends and (self.cursor.peek() == ")" or self.at_word() in _ENDS or self.cursor.peek(2) == ";;"):
                    break
                self.cursor.take(1)
        self.depth -= 1
        return tuple(nodes)

    def is_at(self, ends: Collection[str]) -> bool:
        return (
            self.at_word() in ends
            or (")" in ends and self.cursor.peek() == ")")
            or (";;" in ends and self.cursor.peek(2) in (";;", ";&"))
        )

    def read_and_or(self) -> Node | None:
        first = self.read_pipeline()
        if first is None:
            return None
        items: list[tuple[str, Node]] = [("", first)]
        while True:
            self.skip_blanks()
            joint = self.cursor.match(_JOINT)
            if joint is None:
                break
            self.cursor.take(2)
            self.skip_blanks(lines=True)
            node = self.read_pipeline()
            if node is None:
                break
            items.append((joint[0], node))
        return first if len(items) == 1 else AndOr(tuple(items))

    def read_pipeline(self) -> Node | None:
        self.skip_blanks()
        is_negated = self.at_word() == "!"
        if is_negated:
            self.cursor.take(1)
            self.skip_blanks()
        first = self.read_command()
        if first is None:
            return None
        commands = [first]
        while True:
            self.skip_blanks()
            if self.cursor.peek() != "|" or self.cursor.peek(2) == "||":
                break
            self.cursor.take(2 if self.cursor.peek(2) == "|&" else 1)
            self.skip_blanks(lines=True)
            node = self.read_command()
            if node is None:
                break
            commands.append(node)
        return first if len(commands) == 1 and not is_negated else Pipeline(tuple(commands), is_negated)

    # -- commands

    def read_command(self) -> Node | None:
        cursor = self.cursor
        line, word = cursor.line, self.at_word()
        readers: Mapping[str, Callable[[], Node]] = {
            "if": self.read_if,
            "for": self.read_for,
            "select": self.read_for,
            "while": self.read_while,
            "until": self.read_while,
            "case": self.read_case,
            "{": self.read_braces,
        }
        function = cursor.match(_KEYWORD_FUNCTION) or cursor.match(_FUNCTION)
        node: Node | None
        if word is None and cursor.peek() == "(":
            node = self.read_calculation() if cursor.peek(2) == "((" else self.read_brackets()
        elif function is not None and word not in readers:
            cursor.take(len(function[0]))
            self.skip_blanks(lines=True)
            body = self.read_command()
            node = Function(function[1], body, line) if body is not None else None
        elif cursor.match(_TEST):
            node = self.read_test()
        elif word is not None and word in readers:
            node = readers[word]()
        else:
            node = None if word in _ENDS else self.read_simple()
        return node

    def read_braces(self) -> Group:
        self.cursor.take(1)
        return self.read_group("}", is_subshell=False)

    def read_brackets(self) -> Group:
        self.cursor.take(1)
        return self.read_group(")", is_subshell=True)

    def read_simple(self) -> Node | None:
        cursor = self.cursor
        line = cursor.line
        assignments: list[Assignment] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            self.skip_blanks()
            assigned = cursor.match(_ASSIGNMENT)
            if assigned is not None and (
                not words or words[0].plain in ("export", "declare", "local", "readonly", "typeset")
            ):
                value = self.read_assigned(assigned)
                if not words or isinstance(value.value, tuple):
                    assignments.append(value)
                    continue
                name = Text(f"{value.name}{'+' * value.adds}=", is_quoted=True)
                words.append(Word((name, *value.value.parts), value.value.line))
                continue
            redirect = cursor.match(_REDIRECT)
            if redirect is not None and not cursor.match(PLACEHOLDER):
                self.read_redirect(redirect, redirects)
                continue
            word = read_word(cursor)
            if word is None:
                break
            words.append(word)
        if not assignments and not words and not redirects:
            return None
        return Simple(tuple(assignments), tuple(words), redirects, line)

    def read_assigned(self, match: re.Match[str]) -> Assignment:
        cursor = self.cursor
        cursor.take(len(match[0]))
        adds = bool(match[3])
        if cursor.peek() != "(":
            value = read_word(cursor) or Word((Text("", is_quoted=True),), cursor.line)
            return Assignment(match[1], value, adds, match[2])
        cursor.take(1)
        items: list[Word] = []
        while not cursor.is_done and cursor.peek() != ")":
            self.skip_blanks(lines=True)
            word = read_word(cursor)
            if word is not None:
                items.append(word)
            elif not cursor.is_done and cursor.peek() != ")":
                cursor.take(1)
        cursor.take(1)
        return Assignment(match[1], tuple(items), adds)

    def read_redirect(self, match: re.Match[str], redirects: list[Redirect]) -> None:
        cursor, operator = self.cursor, match[1]
        cursor.take(len(match[0]))
        self.skip_blanks()
        if cursor.peek() == "(" and operator in ("<", ">"):  # process substitution
            cursor.take(1)
            self.read_list({")"})
            cursor.take(1)
            return
        word = read_word(cursor)
        if word is None:
            return
        if operator in ("<<", "<<-"):
            text = "".join(part.text for part in word.parts if isinstance(part, Text))
            is_quoted = any(isinstance(part, Text) and part.is_quoted for part in word.parts)
            self.documents.append((f"'{text}" if is_quoted else text, operator == "<<-", redirects))
        elif operator == "<<<":
            redirects.append(Redirect("<<", None, word))
        else:
            redirects.append(Redirect(operator, word))

    # -- compound commands

    def read_group(self, end: str, *, is_subshell: bool) -> Group:
        body = self.read_list({end})
        if not self.cursor.is_done:
            self.cursor.take(1)
        return Group(body, is_subshell, self.read_redirects())

    def read_redirects(self) -> list[Redirect]:
        redirects: list[Redirect] = []
        while True:
            self.skip_blanks()
            match = self.cursor.match(_REDIRECT)
            if match is None:
                return redirects
            self.read_redirect(match, redirects)

    def read_test(self) -> Test:
        cursor, line, start = self.cursor, self.cursor.line, self.cursor.position
        cursor.take(2)
        words: list[Word] = []
        while not cursor.is_done:
            self.skip_blanks(lines=False)
            if cursor.peek(2) == "]]":
                cursor.take(2)
                break
            word = read_word(cursor)
            if word is not None:
                words.append(word)
                continue
            if cursor.peek() == "\n" and not words:
                break
            mark = cursor.peek(2) if cursor.peek(2) in ("&&", "||") else cursor.peek()
            words.append(Word((Text(mark),), cursor.line))
            cursor.take(len(mark))
            if mark == "\n" and len(words) > 200:
                break
        return Test(tuple(words), line, _shown(cursor, start))

    def read_calculation(self) -> Calculation:
        cursor, line = self.cursor, self.cursor.line
        end = cursor.text.find("))", cursor.position)
        inside = cursor.take_until(len(cursor.text) if end < 0 else end + 2)
        return Calculation(inside[2:].removesuffix("))"), line)

    def read_if(self) -> If:
        cursor = self.cursor
        branches = []
        while True:
            line = cursor.line
            cursor.take(len(self.at_word() or ""))
            start = cursor.position
            condition = self.read_list({"then", "fi"})
            text = _shown(cursor, start)
            self.take_keyword("then")
            body = self.read_list({"elif", "else", "fi"})
            branches.append((condition, body, text, line))
            if self.at_word() != "elif":
                break
        otherwise: tuple[Node, ...] = ()
        if self.take_keyword("else"):
            otherwise = self.read_list({"fi"})
        self.take_keyword("fi")
        self.read_redirects()
        return If(tuple(branches), otherwise)

    def take_keyword(self, keyword: str) -> bool:
        self.skip_blanks(lines=True)
        if self.at_word() != keyword:
            return False
        self.cursor.take(len(keyword))
        return True

    def read_for(self) -> Node:
        cursor, line, start = self.cursor, self.cursor.line, self.cursor.position
        cursor.take(len(self.at_word() or ""))
        self.skip_blanks()
        if cursor.peek(2) == "((":
            header = self.read_calculation().expression
            text = _shown(cursor, start)
            return Loop((), self.read_body(), line, text, header)
        name = self.at_word() or "i"
        cursor.take(len(name))
        self.skip_blanks(lines=True)
        words: list[Word] | None = None
        if self.take_keyword("in"):
            words = []
            while True:
                self.skip_blanks()
                word = read_word(cursor)
                if word is None:
                    break
                words.append(word)
        text = _shown(cursor, start)
        body = self.read_body()
        return For(name, None if words is None else tuple(words), body, line, text)

    def read_body(self) -> tuple[Node, ...]:
        self.take_keyword("do")
        body = self.read_list({"done"})
        self.take_keyword("done")
        self.read_redirects()
        return body

    def read_while(self) -> Loop:
        cursor, line, start = self.cursor, self.cursor.line, self.cursor.position
        cursor.take(len(self.at_word() or ""))
        condition = self.read_list({"do", "done"})
        text = _shown(cursor, start)
        return Loop(condition, self.read_body(), line, text)

    def read_case(self) -> Case:
        cursor, line, start = self.cursor, self.cursor.line, self.cursor.position
        cursor.take(4)
        self.skip_blanks()
        subject = read_word(cursor) or Word((), line)
        text = _shown(cursor, start)
        self.take_keyword("in")
        clauses: list[tuple[tuple[Word, ...], tuple[Node, ...]]] = []
        while True:
            self.skip_blanks(lines=True)
            if cursor.is_done or self.at_word() == "esac":
                break
            patterns = self.read_patterns()
            body = self.read_list({";;", "esac"})
            clauses.append((patterns, body))
            if cursor.peek(2) in (";;", ";&"):
                cursor.take(3 if cursor.peek(3) == ";;&" else 2)
        self.take_keyword("esac")
        return Case(subject, tuple(clauses), line, text)

    def read_patterns(self) -> tuple[Word, ...]:
        cursor = self.cursor
        patterns: list[Word] = []
        while not cursor.is_done:
            self.skip_blanks()
            word = read_word(cursor)
            if word is not None:
                patterns.append(word)
            elif cursor.peek() in "(|":
                cursor.take(1)
            else:
                cursor.take(1)  # the closing bracket, or what should not stand here
                break
        return tuple(patterns)


def _shown(cursor: Cursor, start: int) -> str:
    return " ".join(cursor.text[start : cursor.position].strip().rstrip(";").split())
