"""Whole-number arithmetic of the shell: `$((8000 + i))`, `((i < 4))`."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_]\w*|\$\{?\w+\}?|\*\*|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|[-+*/%<>!?:()=])")
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "%"))
_DEEPEST = 40
_LARGEST = 10**18


class UnknownError(ValueError):
    """The value of an expression is not known, or it is no expression."""


def calculate(expression: str, value_of: Callable[[str], int]) -> int:
    """The value of an expression. `value_of` gives that of a variable. Raises UnknownError."""
    tokens: list[str] = []
    position = 0
    text = expression.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) > 200:
            raise UnknownError(expression)
        tokens.append(match[1])
        position = match.end()
    if not tokens:
        return 0
    reader = _Reader(tokens, value_of)
    value = reader.choice()
    if reader.tokens:
        raise UnknownError(expression)
    return value


class _Reader:
    def __init__(self, tokens: list[str], value_of: Callable[[str], int]) -> None:
        self.tokens = tokens
        self.value_of = value_of
        self.depth = 0

    def choice(self) -> int:
        """CONDITION ? A : B."""
        condition = self.level(0)
        if self.tokens[:1] != ["?"]:
            return condition
        self.tokens.pop(0)
        first = self.choice()
        if self.tokens[:1] != [":"]:
            raise UnknownError("?")
        self.tokens.pop(0)
        second = self.choice()
        return first if condition else second

    def level(self, number: int) -> int:
        if number == len(_LEVELS):
            return self.operand()
        value = self.level(number + 1)
        while self.tokens and self.tokens[0] in _LEVELS[number]:
            value = _joined(value, self.tokens.pop(0), self.level(number + 1))
        return value

    def operand(self) -> int:
        self.depth += 1
        if not self.tokens or self.depth > _DEEPEST:
            raise UnknownError("no value")
        token = self.tokens.pop(0)
        if token in ("-", "+", "!"):
            value = self.operand()
            value = -value if token == "-" else int(not value) if token == "!" else value
        elif token == "(":
            value = self.choice()
            if self.tokens[:1] != [")"]:
                raise UnknownError("(")
            self.tokens.pop(0)
        elif token[0].isdigit():
            value = int(token[:20])
        elif token[0] == "$" or token[0].isalpha() or token[0] == "_":
            value = self.value_of(token.strip("${}"))
        else:
            raise UnknownError(token)
        self.depth -= 1
        return value


def _joined(left: int, operator: str, right: int) -> int:
    if operator in ("/", "%") and right == 0:
        raise UnknownError("division by zero")
    value = {
        "||": lambda: int(bool(left or right)),
        "&&": lambda: int(bool(left and right)),
        "==": lambda: int(left == right),
        "!=": lambda: int(left != right),
        "<": lambda: int(left < right),
        ">": lambda: int(left > right),
        "<=": lambda: int(left <= right),
        ">=": lambda: int(left >= right),
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: int(left / right) if abs(left) < 2**50 else left // right,
        "%": lambda: left - right * int(left / right) if abs(left) < 2**50 else left % right,
    }[operator]()
    if abs(value) > _LARGEST:
        raise UnknownError("too large")
    return value
