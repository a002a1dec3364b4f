"""Write docs/keys.md: every key of a run, what it takes, its default and what it means.

    python -m tools.make_key_reference [--check]

Nothing is typed in: values and meanings are those of `run.schema.json`, defaults those of `conf/every_key.yaml`.
`--check` compares with the file instead of writing it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nexus_orch.compose.schema import Schema, holds_any_name, known_keys, render_expected
from nexus_orch.shipped import conf_dir

FILE = Path(__file__).resolve().parent.parent / "docs" / "keys.md"
EVERY_KEY = "every_key.yaml"


def main() -> int:
    """Write the file, or say whether it is up to date."""
    text = render_document()
    if "--check" in sys.argv[1:]:
        is_same = FILE.read_text(encoding="utf-8") == text
        sys.stdout.write(
            "up to date\n" if is_same else "docs/keys.md is out of date: python -m tools.make_key_reference\n"
        )
        return 0 if is_same else 1
    FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{FILE}: {len(text.splitlines())} lines\n")
    return 0


def render_document() -> str:
    """The whole file: a table for each section."""
    sections: dict[str, list[str]] = {}
    defaults = yaml.safe_load((conf_dir() / EVERY_KEY).read_text(encoding="utf-8"))
    for key, schema in leaves():
        section = key.partition(".")[0] if "." in key or holds_any_name(key) else "run"
        sections.setdefault(section, []).append(_render_row(key, schema, defaults))
    tables = [f"## {section}\n\n{HEADER}{''.join(rows)}" for section, rows in sections.items()]
    return INTRODUCTION + "\n".join(tables)


def leaves() -> Iterator[tuple[str, Schema]]:
    """The keys that hold values, in the order of the schema; an open mapping is one of them."""
    for key, schema in known_keys().items():
        if "properties" not in schema:
            yield key, schema


def _render_row(key: str, schema: Schema, defaults: Mapping[str, Any]) -> str:
    value: Any = defaults
    for name in key.split("."):
        value = value[name]
    default = "" if value is None else f"`{json.dumps(value)}`"
    cells = (f"`{key}`", _render_values(schema), default, schema["description"])
    return f"| {' | '.join(cell.replace('|', PIPE) for cell in cells)} |\n"


def _render_values(schema: Schema) -> str:
    """Without the patterns that only programs read."""
    return re.sub(r"text of the form .*?(?=, or |$)", "text", render_expected(schema))


PIPE = r"\|"
HEADER = "| key | takes | default | |\n|---|---|---|---|\n"
INTRODUCTION = """\
# Every key

Written by `python -m tools.make_key_reference` from `nexus_orch/compose/run.schema.json` and `conf/every_key.yaml`,
never by hand. [profiles.md](profiles.md) tells how keys are set. Where no default stands, the planner decides, or what
the last column says.

"""


if __name__ == "__main__":
    sys.exit(main())
