"""`nexus engine`: install, list, inspect and remove the environments in which vLLM runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from nexus_orch import paths
from nexus_orch.commands import engine_check, engine_diff, engine_flags
from nexus_orch.install.engines.install import install_engine
from nexus_orch.install.engines.installed import Engine, read_engines, remove_engine
from nexus_orch.install.engines.recipe import DEVICES, known_cpu_versions, make_recipe
from nexus_orch.install.work.progress import show_progress
from nexus_orch.install.work.workshop import INDEX_VARIABLE, choose_indexes
from nexus_orch.types import GIB


def add_arguments(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the sub-commands, by their names."""
    commands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    _add_install(commands.add_parser("install", help="make an environment with vLLM; repeat it to go on after a stop"))
    engine_flags.add_arguments(commands.add_parser("flags", help="the options of vllm serve, as the engine has them"))
    check_help = "whether an engine can do what a profile asks, and which releases can"
    engine_check.add_arguments(commands.add_parser("check", help=check_help))
    diff_help = "what changes for a run between two releases, or two engines"
    engine_diff.add_arguments(commands.add_parser("diff", help=diff_help))
    listing = commands.add_parser("list", help="the environments, and how far unfinished ones came")
    listing.add_argument("--format", choices=("table", "json"), default="table")
    removal = commands.add_parser("remove", help="remove an environment; asks nothing")
    removal.add_argument("name", metavar="NAME", help="as in 'nexus engine list'")
    return commands.choices


def _add_install(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help=" or ".join(DEVICES))
    known = known_cpu_versions()
    parser.add_argument("--version", metavar="V", help=f"the vLLM release (tried for cpu: {', '.join(known)})")
    index_help = f"a package index to ask besides pip's own, may be repeated (else {INDEX_VARIABLE} is read)"
    parser.add_argument("--index", metavar="URL", action="append", default=[], help=index_help)
    parser.add_argument("--python", metavar="PATH", help="the Python to make the environment with")
    parser.add_argument("--force", action="store_true", help="remove what is there and start from nothing")


def run(args: argparse.Namespace) -> int:
    match args.subcommand:
        case "install":
            return _install(args)
        case "flags":
            return engine_flags.run(args)
        case "check":
            return engine_check.run(args)
        case "diff":
            return engine_diff.run(args)
        case "remove":
            freed = remove_engine(args.name)
            Console().print(f"removed {args.name} ({freed / GIB:.1f} GiB)", highlight=False)
            return 0
        case _:
            return _list(args.format)


def _install(args: argparse.Namespace) -> int:
    recipe = make_recipe(args.device, args.version)
    console = Console()
    with show_progress(console) as reporter:
        engine = install_engine(
            recipe,
            python=args.python,
            indexes=choose_indexes(args.index, os.environ),
            force=args.force,
            reporter=reporter,
        )
    console.print(f"{engine.name} is ready: vLLM {engine.version}, {engine.python}", highlight=False, soft_wrap=True)
    return 0


def _list(output_format: str) -> int:
    engines = read_engines()
    if output_format == "json":
        sys.stdout.write(json.dumps([_make_row(engine) for engine in engines], indent=2) + "\n")
        return 0
    console = Console()
    if not engines:
        console.print("no engine is installed: nexus engine install cpu", highlight=False)
        return 0
    table = Table("name", "vLLM", "device", "size", "state", box=None, pad_edge=False)
    for engine in engines:
        size = "" if engine.size_bytes is None else f"{engine.size_bytes / GIB:.1f} GiB"
        table.add_row(engine.name, engine.version or "", engine.device or "", size, engine.state_text)
    console.print(table)
    console.print(f"in {paths.engines_dir()}", highlight=False, soft_wrap=True)
    return 0


def _make_row(engine: Engine) -> dict[str, object]:
    row = asdict(engine)
    row |= {"path": str(engine.path), "python": None if engine.python is None else str(engine.python)}
    return row
