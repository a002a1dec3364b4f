"""`nexus engine flags`: the options that a vLLM really has, installed or of a release in the catalogue."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from packaging.version import InvalidVersion, Version
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus_orch.adapt.values import describe_type
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.installed import make_assumed_engine, read_engine
from nexus_orch.facts.options.catalogue import catalogue_flags, releases_where, render_releases
from nexus_orch.facts.options.record import render_flag
from nexus_orch.install.engines.installed import Engine, choose_engine, choose_newest, read_engines
from nexus_orch.releases.known import EXAMPLE, known_releases
from nexus_orch.suggest import find_near
from nexus_orch.types import EngineFacts, Flag
from nexus_orch.view.trimmed import print_trimmed

_MOST_ELSEWHERE = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = f"an engine's name, a release ({EXAMPLE}) or an interpreter; else the newest engine, or the newest release"
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
    _print_table(engine, flags, args.grep)
    return 0


def find_engine(which: str | None, *, cpu: bool | None = None) -> EngineFacts:
    """The engine that a user means; None is the newest one installed, or the newest release known. Raises ConfigError.

    A release is looked for among the installed engines first. With `cpu` the engine must be one for the CPU, or for
    cards: a release of which only the other kind is installed is taken from the catalogue.
    """
    engines = read_engines()
    if which is None:
        newest = choose_newest(engines)
        return make_assumed_engine() if newest is None else read_engine(str(newest.python))
    if which and Path(which).exists():
        return _checked(read_engine(which), which, cpu)
    version = parse_release(which)
    if version is not None:
        suits = [engine for engine in engines if cpu is None or (engine.device == "cpu") is cpu]
        ready = [engine for engine in suits if engine.version == version and engine.state == "ready"]
        return read_engine(str(ready[0].python)) if ready else make_assumed_engine(version, cpu=bool(cpu))
    engine = _choose_named(which, engines)
    if engine.state != "ready":
        remedy = f"nexus engine install {engine.name.partition('-')[0]}"
        raise ConfigError(Problem(f"this engine is {engine.state_text}", "engine", engine.name, remedy=remedy))
    return _checked(read_engine(str(engine.python)), which, cpu)


def parse_release(text: str) -> str | None:
    """A version as the user may write it ("0.25.1", "v0.25", "0.34.0.dev7+gabc"); None when it is none."""
    try:
        Version(text)
    except InvalidVersion:
        return None
    return text.strip().lower().removeprefix("v")


def _choose_named(which: str, engines: Sequence[Engine]) -> Engine:
    try:
        return choose_engine(which, engines)
    except ConfigError as error:
        (problem,) = error.problems
        releases = known_releases()
        near = find_near(which, releases)
        known = f"{releases[0]} to {releases[-1]}" + (f", such as {near[0]}" if near else "")
        remedy = f"{problem.remedy}; or a release ({known}), or an interpreter"
        raise ConfigError(replace(problem, remedy=remedy)) from None


def _checked(engine: EngineFacts, which: str, cpu: bool | None) -> EngineFacts:
    """Raises ConfigError when the engine is for the other kind of machine."""
    if cpu is None or (engine.device == "cpu") is cpu:
        return engine
    message = f"this vLLM is built for {engine.device}, the run is for {'cpu' if cpu else 'cuda'}"
    remedy = f"hardware=cpu, or the release ({engine.version})" if engine.device == "cpu" else "a GPU profile"
    raise ConfigError(Problem(message, "engine", which, remedy=remedy))


def _mentions(flag: Flag, text: str) -> bool:
    return any(text in str(part).lower() for part in (flag.name, *flag.aliases, *flag.choices))


def _print_table(engine: EngineFacts, flags: list[Flag], wanted: str | None) -> None:
    console = Console(highlight=False)
    where = "installed" if engine.source == "installed" else "from the catalogue"
    matching = "" if wanted is None else f" with {wanted!r}"
    console.print(f"vLLM {engine.version}, {where}: {len(flags)} options{matching}")
    for note in engine.notes:
        console.print(f"note: {note}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("option", no_wrap=True, overflow="fold")
    table.add_column("takes", overflow="fold")
    table.add_column("default", overflow="fold")
    for flag in flags:
        table.add_row(Text("\n  ".join((flag.name, *flag.aliases))), Text(_describe_value(flag)), Text(_default(flag)))
    if flags:
        print_trimmed(console, table)
    for line in _had_elsewhere(wanted, engine) if wanted is not None else ():
        console.print(line, soft_wrap=True)


def _had_elsewhere(wanted: str, engine: EngineFacts) -> list[str]:
    """Options of other releases that match, for who looks for one that came or went; a few of them."""
    found: dict[str, None] = {}
    for release in known_releases():
        flags = catalogue_flags(release).values()
        found |= dict.fromkeys(flag.name for flag in flags if _mentions(flag, wanted.lower()))
    missing = [name for name in found if engine.flag(name) is None]
    return [f"not in this one: {name} ({render_releases(releases_where(name))})" for name in missing[:_MOST_ELSEWHERE]]


def _default(flag: Flag) -> str:
    return flag.default_text or ("" if flag.default is None else json.dumps(flag.default))


def _describe_value(flag: Flag) -> str:
    if flag.choices:
        return ", ".join(map(str, flag.choices))
    forms = {"store_true": "(bare)", "bool_optional": "(bare or --no-)", "bool_value": "true or false"}
    words = forms.get(flag.kind) or describe_type(flag)
    if flag.nargs in ("+", "*"):
        words += ", several"
    return f"{words}, may be repeated" if flag.kind == "append" else words
