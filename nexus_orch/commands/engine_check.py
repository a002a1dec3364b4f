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
from nexus_orch.commands.plan import exit_code_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.contracts import EngineProvider
from nexus_orch.facts.engine import make_assumed_engine
from nexus_orch.facts.flags_catalogue import catalogue_releases
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.types import Choice, Facts, RunSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--all", action="store_true", help="every release that is known, too, not only the engine's")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Plan and render the run for each release; the exit code is that of its own engine: 0, 2 when it is refused, 3
    when it does not fit."""
    project = find_project(project_of(args))
    spec = compose_run(args.overrides, project=project)
    plugins = load_plugins(project)
    facts, provider = read_facts(spec, plugins)
    checked = list(_check_releases(spec, facts, provider, plugins, every=args.all))
    if args.format == "json":
        sys.stdout.write(json.dumps([_document(preparation) for preparation in checked], indent=2) + "\n")
    else:
        console = Console()
        for note in checked[0].facts.engine.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
        console.print(_table(checked))
    return exit_code_of(checked[0])


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
        "notes": list(checked.facts.engine.notes),
        "adapter": checked.adapter,
        "result": result_of(checked),
        "reasons": _reasons(checked),
    }


def _table(checked: list[Preparation]) -> Table:
    table = Table("vLLM", "", "adapter", "result", "why", box=None, pad_edge=False)
    for preparation in checked:
        engine = preparation.facts.engine
        place = "installed" if engine.source == "installed" else ""
        row = (engine.version, place, preparation.adapter, result_of(preparation))
        table.add_row(*row, "\n".join(_reasons(preparation)))
    return table


def result_of(checked: Preparation) -> str:
    """good; substituted: something derived is said differently or left out; refused: something pinned cannot be had, or
    the release does not know the model."""
    if checked.rendering.problems:
        return "refused"
    if not checked.plan.fits:
        return "does not fit"
    return "substituted" if substitutions_of(checked) else "good"


def substitutions_of(checked: Preparation) -> tuple[Choice, ...]:
    """What the adapter replaced or left out because of the release, which such a reason names; its other additions
    are choices like any other."""
    release = f"vLLM {checked.facts.engine.version}"
    return tuple(choice for choice in checked.rendering.choices if release in choice.reason)


def _reasons(checked: Preparation) -> list[str]:
    problems = checked.rendering.problems or checked.plan.problems
    reasons = [f"{problem.message} (remedy: {problem.remedy})" for problem in problems]
    return reasons or [f"{choice.key} = {choice.value}: {choice.reason}" for choice in substitutions_of(checked)]
