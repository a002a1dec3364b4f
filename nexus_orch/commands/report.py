"""`nexus report`: what was planned in a run, and what happened."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nexus_orch import paths
from nexus_orch.commands.known_runs import read_known_run
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.record.find import find_run
from nexus_orch.view.report import make_report, render_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="an id or its unique beginning; the last run by default")
    parser.add_argument("--format", choices=("md", "json"), default="md")


def run(args: argparse.Namespace) -> int:
    """Print the report. Raises ConfigError when there is no such run, or when a log was named instead of one."""
    if args.run is not None and Path(args.run).is_file():
        message = "this is a file, and a report is made of a run"
        raise ConfigError(
            Problem(message, key="RUN", value=args.run, remedy=f"`nexus diagnose {args.run}` judges a log")
        )
    record = read_known_run(find_run(paths.runs_dir(), args.run))
    text = render_report(record) if args.format == "md" else json.dumps(make_report(record), indent=1) + "\n"
    sys.stdout.write(text)
    return ExitCode.GOOD
