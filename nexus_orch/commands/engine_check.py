"""`nexus engine check`: does this profile work on this engine, and on which other releases?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus_orch.commands.options import add_run_arguments, project_of
from nexus_orch.commands.plan import exit_code_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.contracts import EngineProvider
from nexus_orch.errors import render_value
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.releases.known import known_releases
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.types import Choice, Facts, RunSpec
from nexus_orch.view.trimmed import print_trimmed

_VARIABLE = "engine.env."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--all", action="store_true", help="every release that is known, too, not only the engine's")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Plan and render the run for each release; the exit code is that of its own engine: 0, 2 when it is refused, 3
    when it does not fit."""
    project = find_project(project_of(args))
    plugins = load_plugins(project)
    spec = compose_run(args.overrides, project=project, judge=plugins.judge)
    facts, provider = read_facts(spec, plugins)
    own, *others = _check_releases(spec, facts, provider, plugins, every=args.all)
    if args.format == "json":
        sys.stdout.write(json.dumps([_document(preparation) for preparation in (own, *others)], indent=2) + "\n")
    else:
        _print(own, others)
    return exit_code_of(own)


def _check_releases(
    spec: RunSpec, facts: Facts, provider: EngineProvider, plugins: Plugins, *, every: bool
) -> Iterator[Preparation]:
    """The run on its own engine first; then, planned anew for each, on the releases of the catalogue."""
    yield make_preparation(spec, facts, provider, plugins)
    for release in known_releases() if every else ():
        assumed = make_assumed_engine(str(release), cpu=facts.engine.device == "cpu")
        yield make_preparation(spec, replace(facts, engine=assumed), provider, plugins)


def _document(checked: Preparation) -> dict[str, object]:
    return {
        "engine_version": checked.facts.engine.version,
        "source": checked.facts.engine.source,
        "notes": [*checked.facts.engine.notes, *checked.rendering.notes],
        "adapter": checked.adapter,
        "result": result_of(checked),
        "reasons": _reasons(checked),
        "additions": [f"{_render_choice(choice)}: {choice.reason}" for choice in checked.additions],
    }


def _print(own: Preparation, others: Sequence[Preparation]) -> None:
    console = Console(highlight=False)
    for note in (*own.facts.engine.notes, *own.rendering.notes):
        console.print(f"note: {note}", soft_wrap=True)
    table = Table("vLLM", "adapter", "result", "why", box=None, pad_edge=False)
    engine = own.facts.engine
    place = "installed" if engine.source == "installed" else "this run"
    table.add_row(f"{engine.version} ({place})" if others else engine.version, *_cells(own, explains=not others))
    for cells, alike in groupby(others, key=lambda checked: _cells(checked, explains=False)):
        versions = [checked.facts.engine.version for checked in alike]
        table.add_row(" to ".join(dict.fromkeys((versions[0], versions[-1]))), *cells)
    print_trimmed(console, table)
    if any(checked.additions and not _reasons(checked) for checked in others):
        print_trimmed(console, "\nwhy something is added: nexus plan engine.version=RELEASE OVERRIDE ...")


def _cells(checked: Preparation, *, explains: bool) -> tuple[str, str, Text]:
    """Adapter, result and why; without `explains` in words that are the same for releases that do the same."""
    version, why = checked.facts.engine.version, _reasons(checked)
    if explains:
        why = why or [f"adds {_render_choice(choice)}: {choice.reason}" for choice in checked.additions]
    elif why:
        why = [_without_release(reason, version) for reason in why]
    elif checked.additions:
        why = [f"adds {', '.join(choice.key.removeprefix(_VARIABLE) for choice in checked.additions)}"]
    return checked.adapter, result_of(checked), Text("\n".join(why))


def _without_release(reason: str, version: str) -> str:
    return reason.replace(f"refused for vLLM {version}: ", "").replace(f"vLLM {version} ", "the release ")


def result_of(checked: Preparation) -> str:
    """good: the release does all that user and planner asked for; substituted: something derived is said differently or
    left out; refused: something pinned cannot be had, or the release does not know the model; does not fit."""
    if checked.refusals:
        return "refused"
    if not checked.plan.fits:
        return "does not fit"
    return "substituted" if checked.substitutions else "good"


def _reasons(checked: Preparation) -> list[str]:
    problems = checked.refusals or checked.plan.problems
    reasons = [f"{problem.message} (remedy: {problem.remedy})" for problem in problems]
    return reasons or [f"{_render_choice(choice)}: {choice.reason}" for choice in checked.substitutions]


def _render_choice(choice: Choice) -> str:
    """`memory.offload_backend = uva`; a variable as one writes it, `VLLM_USE_V1=0`."""
    if choice.value is None:
        return f"no {choice.key}"
    if choice.key.startswith(_VARIABLE):
        return f"{choice.key.removeprefix(_VARIABLE)}={choice.value}"
    return f"{choice.key} = {render_value(choice.value)}"
