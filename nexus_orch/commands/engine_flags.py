"""`nexus engine flags`: the options that a vLLM really has, installed or of a release in the catalogue."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine import make_assumed_engine, read_engine
from nexus_orch.facts.flags_record import render_flag
from nexus_orch.install.engines import choose_engine, choose_newest, read_engines
from nexus_orch.types import EngineFacts, Flag

SHOWN_CHOICES_LENGTH = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = "an engine's name, a release (0.32.0) or an interpreter; else the newest engine, or the newest release"
    parser.add_argument("which", metavar="ENGINE", nargs="?", help=which)
    parser.add_argument("--grep", metavar="TEXT", help="only options whose name, alias or choice contains this")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    engine = find_engine(args.which)
    flags = [flag for flag in engine.flags.values() if args.grep is None or _mentions(flag, args.grep.lower())]
    if args.format == "json":
        content = {
            "version": engine.version,
            "source": engine.source,
            "python": engine.python,
            "notes": list(engine.notes),
            "flags": {flag.name: render_flag(flag) for flag in flags},
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    _print_table(engine, flags)
    return 0


def find_engine(which: str | None) -> EngineFacts:
    """The engine that a user means; None is the newest one installed, or the newest release known. Raises ConfigError.

    A release is looked for among the installed engines first.
    """
    engines = read_engines()
    if which is None:
        newest = choose_newest(engines)
        return make_assumed_engine() if newest is None else read_engine(str(newest.python))
    if Path(which).exists():
        return read_engine(which)
    if which[0].isdigit() and which not in {engine.version for engine in engines}:
        return make_assumed_engine(which)
    engine = choose_engine(which, engines)
    if engine.state != "ready":
        remedy = f"nexus engine install {engine.name.partition('-')[0]}"
        raise ConfigError(Problem(f"this engine is {engine.state_text}", "engine", engine.name, remedy=remedy))
    return read_engine(str(engine.python))


def _mentions(flag: Flag, text: str) -> bool:
    return any(text in str(part).lower() for part in (flag.name, *flag.aliases, *flag.choices))


def _print_table(engine: EngineFacts, flags: list[Flag]) -> None:
    console = Console()
    where = "installed" if engine.source == "installed" else "from the catalogue"
    console.print(f"vLLM {engine.version}, {where}: {len(flags)} options", highlight=False)
    for note in engine.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    table = Table("option", "takes", "default", box=None, pad_edge=False)
    for flag in flags:
        default = "" if flag.default is None else json.dumps(flag.default)
        cells = (", ".join((flag.name, *flag.aliases)), _describe_value(flag), default)
        table.add_row(*map(Text, cells))
    console.print(table)


def _describe_value(flag: Flag) -> str:
    if flag.choices:
        text = ", ".join(map(str, flag.choices))
        return text if len(text) <= SHOWN_CHOICES_LENGTH else text[: SHOWN_CHOICES_LENGTH - 3] + "..."
    kinds = {"store_true": "(nothing)", "bool_optional": "(nothing; --no-... too)", "json": "JSON"}
    return kinds.get(flag.kind, flag.type or flag.kind)
