"""`nexus plan`: compose, read the facts, plan and render; launch nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexus_orch.commands.options import add_run_arguments, conf_dirs, project_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ExitCode
from nexus_orch.facts.profiles import read_siblings
from nexus_orch.plan.answer.document import plan_document
from nexus_orch.plan.nearby.alternatives import find_alternatives
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.prepare import Preparation, make_draw, make_preparation, read_facts

FORMATS = ("table", "json", "yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--guide", action="store_true", help="what sizes of model need, and what common cards serve")
    parser.add_argument("--format", choices=FORMATS, default="table", help="how to show the plan (default: table)")


def run(args: argparse.Namespace) -> int:
    """Show the plan; 0 when it fits, 3 when it does not, 2 when what is pinned cannot be had."""
    project = find_project(project_of(args))
    if args.guide:
        from nexus_orch.commands.guide import show_guide  # noqa: PLC0415 - a plan does not need it

        return show_guide(args.overrides, args.format, project)
    plugins = load_plugins(project)
    spec = compose_run(args.overrides, project=project, judge=plugins.judge)
    facts, provider = read_facts(spec, plugins)
    preparation = make_preparation(spec, facts, provider, plugins)
    if not _is_only_refused(preparation):
        preparation = _with_alternatives(preparation, plugins, project)
    SHOW[args.format](preparation)
    return exit_code_of(preparation)


def _is_only_refused(preparation: Preparation) -> bool:
    """Whether the run fits and only the engine cannot do it: then no other model or card would help."""
    plan, refusals = preparation.plan, preparation.rendering.problems
    return plan.is_refused and all(problem in refusals for problem in plan.problems)


def _with_alternatives(preparation: Preparation, plugins: Plugins, project: Path | None) -> Preparation:
    """The same with the nearest alternatives in its prediction."""
    facts, plan = preparation.facts, preparation.plan
    siblings = read_siblings(preparation.spec.model, facts.model.config, conf_dirs(project))
    found = find_alternatives(plan, facts, plugins.loaders(), siblings, make_draw(plugins))
    return replace(preparation, plan=replace(plan, prediction=replace(plan.prediction, alternatives=found)))


def exit_code_of(preparation: Preparation) -> ExitCode:
    """What a launch of this preparation would end with before it began; GOOD when it may begin."""
    if preparation.refusals:
        return ExitCode.CONFIG
    return ExitCode.GOOD if preparation.plan.fits else ExitCode.DOES_NOT_FIT


def _document(preparation: Preparation) -> dict[str, Any]:
    shown = preparation.shown_command()
    return plan_document(preparation.plan, preparation.adapter, shown.argv, shown.shown_env)


def _show_json(preparation: Preparation) -> None:
    sys.stdout.write(json.dumps(_document(preparation), indent=2) + "\n")


def _show_yaml(preparation: Preparation) -> None:
    import yaml  # noqa: PLC0415 - only this format needs it

    sys.stdout.write(yaml.safe_dump(_document(preparation), sort_keys=False, allow_unicode=True))


def _show_table(preparation: Preparation) -> None:
    from nexus_orch.view.plan import print_plan  # noqa: PLC0415 - rich is not needed for the other formats

    shown = preparation.shown_command()
    print_plan(preparation.plan, shown.argv, shown.shown_env, sys.stdout)


SHOW: Mapping[str, Callable[[Preparation], None]] = {"table": _show_table, "json": _show_json, "yaml": _show_yaml}
