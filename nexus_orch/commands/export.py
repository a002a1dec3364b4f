"""`nexus export`: a plan as a file that others run: shell script, docker-compose, systemd unit, Kubernetes manifest."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.commands.options import add_run_arguments, project_of
from nexus_orch.compose.project import find_project
from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ConfigError, ExitCode, PlanError, Problem
from nexus_orch.exchange.deploy.deployment import Deployment, make_deployment
from nexus_orch.files import PROGRAM, SHARED, write_result
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file. `exchange/deploy/NAME.py` has its `render_NAME`; `start` tells how the file is started."""

    start: str
    is_container: bool = False
    mode: int = SHARED


FORMATS: Mapping[str, ExportFormat] = {
    "shell": ExportFormat("{file}", mode=PROGRAM),
    "compose": ExportFormat("docker compose -f {file} up -d", is_container=True),
    "systemd": ExportFormat("as its comment says"),
    "kubernetes": ExportFormat("kubectl apply -f {file}", is_container=True),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--as", dest="format", choices=tuple(FORMATS), required=True, help="what kind of file")
    parser.add_argument("--out", metavar="FILE", help="write this file; else standard output")
    parser.add_argument("--image", metavar="IMAGE", help="the container's image (default: vllm/vllm-openai:vRELEASE)")
    parser.add_argument(
        "--force", action="store_true", help="also a plan that does not fit; replace a file that is there"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file. 3 when the plan does not fit, 2 when the engine cannot do what is pinned."""
    target = None if args.out is None else Path(args.out).expanduser()
    if target is not None and target.exists() and not args.force:
        remedy = "--force replaces it, or choose another name"
        raise ConfigError(Problem(f"{target} is there already", remedy=remedy))
    project = find_project(project_of(args))
    plugins = load_plugins(project)
    spec = compose_run(args.overrides, project=project, judge=plugins.judge)
    if spec.serve.front_door:
        spec = spec.with_value("serve.front_door", False)
        sys.stderr.write("note: the front door is a part of nexus-run: this file starts the engine alone\n")
    facts, provider = read_facts(spec, plugins)
    prepared = make_preparation(spec, facts, provider, plugins)
    _check(prepared, args)
    installed = prepared.shown_command() if prepared.is_installed else None
    deployment = make_deployment(prepared.plan, prepared.rendering, facts.engine, installed, image=args.image)
    text = _render(args.format, deployment)
    if deployment.is_folder and not Path(deployment.model).expanduser().exists():
        sys.stderr.write(
            f"note: {deployment.model} is not there yet: nexus model fetch {Path(deployment.model).name}\n"
        )
    if target is None:
        sys.stdout.write(text)
        return ExitCode.GOOD
    write_result(target, text, mode=FORMATS[args.format].mode)
    start = FORMATS[args.format].start.format(file=shlex.quote(str(target.absolute())))
    sys.stderr.write(f"wrote {target}; start it: {start}\n")
    return ExitCode.GOOD


def _check(prepared: Preparation, args: argparse.Namespace) -> None:
    """Raises ConfigError for what cannot be said, and PlanError for what does not fit."""
    if prepared.rendering.problems or (prepared.refusals and not args.force):
        raise ConfigError(*prepared.refusals)
    if not prepared.plan.fits and not args.force:
        problems = prepared.plan.problems or (Problem("the plan does not fit"),)
        raise PlanError(*problems, Problem("not exported", remedy="--force exports it all the same"))
    if prepared.facts.engine.device == "cpu" and FORMATS[args.format].is_container and args.image is None:
        remedy = "name one that you have or built: --image NAME:TAG"
        raise ConfigError(Problem("vllm/vllm-openai has no build for the CPU", "--image", remedy=remedy))


def _render(name: str, deployment: Deployment) -> str:
    """The file. Its module is loaded only now: two of them bring YAML."""
    module = importlib.import_module(f"nexus_orch.exchange.deploy.{name}")
    return str(getattr(module, f"render_{name}")(deployment))
