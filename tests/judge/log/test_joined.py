"""Lines that a terminal broke at its width are joined; other logs stay as they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.judge.log.joined import Joiner

ERROR = "(EngineCore pid=7) ERROR 01-15 09:02:10 [core.py:946] "


def join(*lines: str) -> list[str]:
    joiner = Joiner()
    return [*(whole for line in lines for whole in joiner.add(line)), *joiner.end()]


def broken(text: str, width: int) -> list[str]:
    return [text[at : at + width] for at in range(0, len(text), width)]


def test_a_broken_line_becomes_whole() -> None:
    lines = [ERROR + word * 40 for word in ("alpha ", "beta ", "gamma ", "delta ")]
    pieces = [piece for line in lines for piece in broken(line, 97)]
    assert join(*pieces)[-1] == lines[-1]


def test_lines_of_one_length_that_begin_as_lines_do_are_not_joined() -> None:
    lines = [
        ERROR + f"No available block found in 60 seconds, the {number}th time, and it goes on" for number in range(3, 9)
    ]
    assert join(*lines) == lines


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=80), max_size=60))
def test_no_character_is_lost(lines: list[str]) -> None:
    assert "".join(join(*lines)) == "".join(lines)
