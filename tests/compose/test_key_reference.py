"""docs/keys.md is what the schema and the defaults say today."""

from __future__ import annotations

import dataclasses
import re
import typing

import pytest

from nexus_orch.types import RunSpec
from tools.make_key_reference import FILE, render_document


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == render_document(), "run `python -m tools.make_key_reference`"


def _fields(record: type, prefix: str = "") -> set[str]:
    hints = typing.get_type_hints(record)
    found: set[str] = set()
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        is_section = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        found |= _fields(hint, f"{prefix}{field.name}.") if is_section else {prefix + field.name}
    return found


def test_each_value_of_a_run_has_its_row() -> None:
    rows = set(re.findall(r"^\| `([\w.]+)` ", FILE.read_text(encoding="utf-8"), re.MULTILINE))
    assert _fields(RunSpec) - rows == {"origins"}
    assert rows <= _fields(RunSpec)


@pytest.mark.parametrize("key", ["engine.adapter", "serve.cpu_threads_bind", "memory.dynamic", "limits.adjustments"])
def test_a_row_says_what_the_key_takes(key: str) -> None:
    (row,) = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{key}` ")]
    takes, _, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:5])
    assert takes and meaning.endswith(".")
