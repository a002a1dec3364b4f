"""docs/keys.md is what the schema and the defaults say today."""

from __future__ import annotations

import re

import pytest

from tools.make_key_reference import FILE, render_document


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == render_document(), "run `python -m tools.make_key_reference`"


@pytest.mark.parametrize("key", ["engine.adapter", "serve.cpu_threads_bind", "memory.dynamic", "limits.adjustments"])
def test_a_row_says_what_the_key_takes(key: str) -> None:
    (row,) = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{key}` ")]
    takes, _, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:5])
    assert takes and meaning.endswith(".")
