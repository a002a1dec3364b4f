"""`nexus engine diff`: what changes for a run between two releases of vLLM, or two installed engines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from nexus_orch.adapt.difference import Difference, OptionChanges, Side, describe_change, make_difference
from nexus_orch.commands.engine_flags import find_engine
from nexus_orch.commands.options import add_run_arguments, project_of
from nexus_orch.commands.plan import exit_code_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.releases.known import EXAMPLE
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts

_SIDE_KEYS = ("engine.version", "engine.python")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = f"a release ({EXAMPLE}), the name of an installed engine or an interpreter"
    parser.add_argument("before", metavar="A", help=which)
    parser.add_argument("after", metavar="B", help="the same for the other side")
    add_run_arguments(parser)
    parser.add_argument("--options", action="store_true", help="list every option that appeared, vanished or changed")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Show what changes; the exit code is that of the run on B: 0, 2 when it is refused, 3 when it does not fit."""
    _refuse_named_engines(args.overrides)
    project = find_project(project_of(args))
    plugins = load_plugins(project)
    spec = compose_run(args.overrides, project=project, judge=plugins.judge)
    spec = replace(spec, engine=replace(spec.engine, version=None, python=None))
    facts, provider = read_facts(spec, plugins)
    engines = [find_engine(which, cpu=not facts.machine.gpus) for which in (args.before, args.after)]
    before, after = (make_preparation(spec, replace(facts, engine=engine), provider, plugins) for engine in engines)
    difference = make_difference(_make_side(before), _make_side(after))
    if args.format == "json":
        sys.stdout.write(json.dumps(_document(difference), indent=2) + "\n")
    else:
        from nexus_orch.view.engine_diff import print_difference  # noqa: PLC0415 - rich is not needed for JSON

        print_difference(difference, sys.stdout, lists_options=args.options)
    return exit_code_of(after)


def _refuse_named_engines(overrides: Sequence[str]) -> None:
    """Raises ConfigError when the overrides name an engine besides A and B."""
    keys = [word.lstrip("+").partition("=") for word in overrides]
    problems = [
        Problem("A and B are the engines that are compared", key, value, "command line", "leave it out")
        for key, _, value in keys
        if key in _SIDE_KEYS
    ]
    if problems:
        raise ConfigError(*problems)


def _make_side(preparation: Preparation) -> Side:
    plan, facts = preparation.plan, preparation.facts
    inputs = read_inputs(preparation.spec, facts, ())
    is_offloading = any(card.offloaded_bytes for card in plan.per_gpu)
    generation = inputs.generation(offloading=is_offloading)
    ranks = (plan.settings.get("serve.tensor_parallel") or 1) * (plan.settings.get("serve.pipeline_parallel") or 1)
    batching = [default_batching(gpu.total_bytes, gpu.name, generation, ranks) for gpu in facts.machine.gpus]
    return Side(
        engine=facts.engine,
        adapter=preparation.adapter,
        plan=plan,
        rendering=preparation.rendering,
        generation=generation,
        batching=min(batching, default=None),
    )


def _document(difference: Difference) -> dict[str, Any]:
    return {
        "before": _side_document(difference.before),
        "after": _side_document(difference.after),
        "settings": [asdict(change) for change in difference.settings],
        "command": {
            "removed": [line for sign, line in difference.command if sign == "-"],
            "added": [line for sign, line in difference.command if sign == "+"],
        },
        "accounting": [{"rule": rule, "before": before, "after": after} for rule, before, after in difference.rules],
        "options": _options_document(difference.options),
    }


def _side_document(side: Side) -> dict[str, Any]:
    plan = side.plan
    return {
        "engine_version": side.engine.version,
        "source": side.engine.source,
        "python": side.engine.python,
        "notes": list(side.engine.notes),
        "adapter": side.adapter,
        "runner": side.generation.name,
        "fits": plan.fits,
        "loader": plan.loader,
        "kv_cache_tokens": plan.kv_cache_tokens,
        "max_model_len": plan.max_model_len,
        "max_concurrency": plan.max_concurrency,
        "per_gpu": [asdict(card) for card in plan.per_gpu],
        "host": asdict(plan.host),
        "decode_tokens_per_second": plan.prediction.decode_tokens_per_second,
        "argv": list(side.rendering.argv),
        "env": dict(side.rendering.env),
        "problems": [
            {"key": problem.key, "cause": problem.cause, "message": problem.message, "remedy": problem.remedy}
            for problem in plan.problems
        ],
    }


def _options_document(options: OptionChanges) -> dict[str, Any]:
    return {
        "before": options.counts[0],
        "after": options.counts[1],
        "appeared": [flag.name for flag in options.appeared],
        "vanished": [flag.name for flag in options.vanished],
        "changed": {after.name: list(describe_change(before, after)) for before, after in options.changed},
    }
