"""`nexus engine check`: does this profile work on this engine, and on which other releases?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from nexus_orch.commands.options import add_run_arguments, project_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.contracts import EngineProvider
from nexus_orch.errors import ExitCode
from nexus_orch.facts.engine import make_assumed_engine
from nexus_orch.facts.flags_catalogue import catalogue_releases
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.types import Facts, RunSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--all", action="store_true", help="every release that is known, too, not only the engine's")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Plan and render the run for each release; 0 when its own engine can do all that is pinned, else 2."""
    project = find_project(project_of(args))
    spec = compose_run(args.overrides, project=project)
    plugins = load_plugins(project)
    facts, provider = read_facts(spec, plugins)
    checked = list(_check_releases(spec, facts, provider, plugins, every=args.all))
    if args.format == "json":
        sys.stdout.write(json.dumps([_document(preparation) for preparation in checked], indent=2) + "\n")
    else:
        Console().print(_table(checked))
    return ExitCode.CONFIG if checked[0].rendering.problems else ExitCode.GOOD


def _check_releases(
    spec: RunSpec, facts: Facts, provider: EngineProvider, plugins: Plugins, *, every: bool
) -> Iterator[Preparation]:
    """The run on its own engine first; then, planned anew for each, on the releases of the catalogue."""
    yield make_preparation(spec, facts, provider, plugins)
    for release in catalogue_releases() if every else ():
        assumed = make_assumed_engine(str(release), cpu=facts.engine.device == "cpu")
        yield make_preparation(spec, replace(facts, engine=assumed), provider, plugins)


def _document(checked: Preparation) -> dict[str, object]:
    return {
        "engine_version": checked.facts.engine.version,
        "source": checked.facts.engine.source,
        "adapter": checked.adapter,
        "result": _result(checked),
        "reasons": _reasons(checked),
    }


def _table(checked: list[Preparation]) -> Table:
    table = Table("vLLM", "", "adapter", "result", "why", box=None, pad_edge=False)
    for preparation in checked:
        engine = preparation.facts.engine
        place = "installed" if engine.source == "installed" else ""
        row = (engine.version, place, preparation.adapter, _result(preparation))
        table.add_row(*row, "\n".join(_reasons(preparation)))
    return table


def _result(checked: Preparation) -> str:
    """good; substituted: something derived is said differently or left out; refused: something pinned cannot be had."""
    if checked.rendering.problems:
        return "refused"
    if not checked.plan.fits:
        return "does not fit"
    return "substituted" if checked.rendering.choices else "good"


def _reasons(checked: Preparation) -> list[str]:
    problems = checked.rendering.problems or checked.plan.problems
    reasons = [f"{problem.message} (remedy: {problem.remedy})" for problem in problems]
    return reasons or [f"{choice.key} = {choice.value}: {choice.reason}" for choice in checked.rendering.choices]
