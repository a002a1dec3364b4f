"""docs/planner.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from bench.planner import render_errors

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "planner.md").read_text(encoding="utf-8")


def test_the_table_of_errors_is_the_planners() -> None:
    assert render_errors() in TEXT


def test_every_module_is_on_the_way_through_the_code() -> None:
    way = TEXT.split("## The way through the code")[1].split("##")[0]
    modules = {path.name for path in (ROOT / "nexus_orch" / "plan").glob("*.py")} - {"__init__.py"}
    plumbing = {"architecture.py", "config_reader.py", "parameters.py", "settings.py"}
    assert {name for name in modules - plumbing if name not in way} == set()
