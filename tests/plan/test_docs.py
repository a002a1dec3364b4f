"""docs/planner.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from bench.planner import render_errors

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "planner.md").read_text(encoding="utf-8")


def test_the_table_of_errors_is_the_planners() -> None:
    assert render_errors() in TEXT


def test_every_module_is_on_the_way_through_the_code() -> None:
    """And nothing else is: a name in it that no module has is the name of one that is gone."""
    way = TEXT.split("## The way through the code")[1].split("##")[0]
    found = [path for path in (ROOT / "nexus_orch" / "plan").rglob("*.py") if path.name != "__init__.py"]
    modules = {path.name for path in found if path.parent.name != "families"}
    assert set(re.findall(r"\w+\.py\b", way)) == modules
