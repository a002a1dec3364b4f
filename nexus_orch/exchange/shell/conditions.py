"""`[ ... ]`, `test` and `[[ ... ]]`: whether they hold. None when the file does not tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from fnmatch import fnmatchcase

from nexus_orch.exchange.start import has_reference

_COMPARES: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_DEEPEST = 40


def judge_test(words: Sequence[str], files: Container[str], *, is_double: bool = False) -> bool | None:
    """Whether the condition between the brackets holds. `files` are those that the script has written."""
    return _Reader(list(words), files, is_double=is_double).either(0)


class _Reader:
    def __init__(self, words: list[str], files: Container[str], *, is_double: bool) -> None:
        self.words = words
        self.files = files
        self.is_double = is_double
        self.joins = (("||", "-o"), ("&&", "-a"))

    def either(self, depth: int) -> bool | None:
        return self._joined(0, depth)

    def _joined(self, level: int, depth: int) -> bool | None:
        if level == 2:
            return self.one(depth)
        value = self._joined(level + 1, depth)
        while self.words and self.words[0] in self.joins[level]:
            self.words.pop(0)
            other = self._joined(level + 1, depth)
            decisive = level == 0
            if value is decisive or other is decisive:
                value = decisive
            elif value is None or other is None:
                value = None
        return value

    def one(self, depth: int) -> bool | None:
        words = self.words
        if not words or depth > _DEEPEST:
            return False
        if words[0] == "!" and len(words) > 1:
            words.pop(0)
            value = self.one(depth + 1)
            return None if value is None else not value
        if words[0] == "(" and len(words) > 2:
            words.pop(0)
            value = self.either(depth + 1)
            if words[:1] == [")"]:
                words.pop(0)
            return value
        if len(words) >= 3 and words[1] in ("=", "==", "!=", "=~", "<", ">", *_COMPARES, "-nt", "-ot", "-ef"):
            left, operator, right = words[0], words[1], words[2]
            del words[:3]
            return self._compared(left, operator, right)
        if len(words) >= 2 and re.fullmatch(r"-[a-zA-Z]", words[0]) and words[1] not in ("&&", "||", ")"):
            operator, value_text = words[0], words[1]
            del words[:2]
            return self._unary(operator, value_text)
        word = words.pop(0)
        return None if has_reference(word) else word != ""

    def _unary(self, operator: str, text: str) -> bool | None:
        if operator in ("-n", "-z"):
            known = None if has_reference(text) else text != ""
            return known if known is None or operator == "-n" else not known
        if operator in ("-f", "-e", "-r", "-s") and text in self.files:
            return True
        return None

    def _compared(self, left: str, operator: str, right: str) -> bool | None:
        if has_reference(left) or has_reference(right):
            return None
        if operator in _COMPARES:
            numbers = [text.strip() for text in (left, right)]
            are_numbers = all(re.fullmatch(r"-?\d{1,18}", number) for number in numbers)
            return _COMPARES[operator](int(numbers[0]), int(numbers[1])) if are_numbers else None
        if operator in ("=", "==", "!="):
            same = fnmatchcase(left, right) if self.is_double else left == right
            return same if operator != "!=" else not same
        if operator == "=~" and re.fullmatch(r"\^?[\w./ :-]*\$?", right):  # no more than a plain text with its ends
            return re.search(right, left) is not None
        return None
