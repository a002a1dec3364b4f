"""`nexus calibrate`: a small set of launches, and how far the plan was from what they measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nexus_orch.commands.calibrate_bus import run_bus
from nexus_orch.commands.options import add_run_arguments, project_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.facts.machine.machine import read_machine
from nexus_orch.files import write_result
from nexus_orch.install.models.bundled import fetch_awaited
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.sweep.calibration import Launch, calibrate, choose_variations, make_document
from nexus_orch.types import RunSpec
from nexus_orch.view.calibration import render_calibration
from nexus_orch.view.run_view import make_view

FORMATS = ("table", "json", "md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    bus_help = "measure the bus between RAM and the cards instead, which every later plan uses"
    parser.add_argument("--bus", action="store_true", help=bus_help)
    parser.add_argument("--models", metavar="A,B", help="launch these models, one after another (default: the run's)")
    parser.add_argument("--format", choices=FORMATS, default="table", help="how to show the result (default: table)")
    parser.add_argument("--out", metavar="FILE", help="write the result there as JSON, too")


def run(args: argparse.Namespace) -> int:
    """Launch, compare and report; 0 when every launch was measured, else the exit code of the first that was not."""
    project = find_project(project_of(args))
    out = None if args.out is None else _check_out(Path(args.out))
    if args.bus:
        return run_bus(args, project, out)
    plugins = load_plugins(project)
    launches: list[Launch] = []
    for spec, overrides in _compose(args, project, plugins):
        sys.stderr.write(f"calibrating: {' '.join((spec.model.name, *overrides))}\n")
        fetch_awaited(spec.model, sys.stderr, python=spec.engine.python)
        launches.append(calibrate(spec, overrides, plugins, make_view("auto", sys.stderr)))
        _write(out, launches)  # after each launch, so that an interrupted calibration keeps what it has
        if launches[-1].outcome == "interrupted":
            break
    document = make_document(launches)
    if args.format == "json":
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(render_calibration(document, markdown=args.format == "md"))
    return next((launch.exit_code for launch in launches if launch.exit_code), ExitCode.GOOD)


def _compose(
    args: argparse.Namespace, project: Path | None, plugins: Plugins
) -> Sequence[tuple[RunSpec, tuple[str, ...]]]:
    """Every launch with the overrides that make it differ; composed first, so that mistakes are told at once."""
    found = []
    for choice in _choose_models(args):
        given = (*args.overrides, *choice)
        spec = compose_run(given, project=project, judge=plugins.judge)
        is_cpu = not read_machine(spec.hardware, spec.origins).gpus
        for variation in choose_variations(spec, is_cpu=is_cpu):
            changed = compose_run((*given, *variation), project=project, judge=plugins.judge)
            found.append((changed, (*_without_model(args.overrides), *variation)))
    return found


def _choose_models(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    if args.models is None:
        yield ()
        return
    if any(word.startswith("model=") for word in args.overrides):
        raise ConfigError(Problem("two ways to name the model", "--models", args.models, "command line", "use one"))
    names = [name.strip() for name in args.models.split(",") if name.strip()]
    if not names:
        raise ConfigError(Problem("no model is named", "--models", args.models, "command line", "--models qwen7b"))
    for name in names:
        yield (f"model={name}",)


def _without_model(overrides: Sequence[str]) -> tuple[str, ...]:
    """The table names the model itself."""
    return tuple(word for word in overrides if not word.startswith("model="))


def _check_out(path: Path) -> Path:
    """Better now than after minutes of launches."""
    if not path.parent.is_dir() or path.is_dir():
        remedy = "name a file in a folder that exists"
        raise ConfigError(Problem("the result cannot be written there", "--out", path, "command line", remedy))
    return path


def _write(path: Path | None, launches: Sequence[Launch]) -> None:
    if path is not None:
        write_result(path, json.dumps(make_document(launches), indent=1) + "\n")
