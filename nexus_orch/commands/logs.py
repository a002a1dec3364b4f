"""`nexus logs`: the engine's log of a run, or its journal; from the end, or as it grows."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from nexus_orch import paths
from nexus_orch.commands.known_runs import read_known_run
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.record.find import find_run
from nexus_orch.record.log_tail import LogFollower
from nexus_orch.record.run_folder import RunFolder

DEFAULT_LINES = 200
POLL_SECONDS = 0.25
END_CHECK_SECONDS = 1.0
"""How often it is looked whether the run is over; its journal is read for that."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="an id or its unique beginning; the last run by default")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as the log grows, until the run is over")
    parser.add_argument(
        "-n", "--lines", type=_parse_count, default=DEFAULT_LINES, metavar="N", help=f"last lines ({DEFAULT_LINES})"
    )
    parser.add_argument("--journal", action="store_true", help="what nexus_orch recorded, as JSON lines")


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(find_run(paths.runs_dir(), args.run))
    path = folder.journal if args.journal else folder.log
    if args.follow:
        follow(path, args.lines, sys.stdout.buffer, lambda: read_known_run(folder.path).is_over)
    else:
        _show(path, args.lines, sys.stdout.buffer)
    return ExitCode.GOOD


def follow(path: Path, lines: int, out: BinaryIO, is_over: Callable[[], bool]) -> None:
    """Write the last lines and then all that comes, until the run is over and everything was written."""
    follower = LogFollower(path)
    out.write(follower.read_last(lines))
    gaps, over, next_check = 0, False, 0.0
    while True:
        data = follower.read_new()
        if follower.gaps > gaps:
            gaps = follower.gaps
            out.write(b"\n[nexus logs: the log grew faster than it could be followed; a part is missing]\n")
        out.write(data)
        out.flush()
        if data:
            continue
        if over:
            return
        if time.monotonic() >= next_check:
            over = is_over()
            next_check = time.monotonic() + END_CHECK_SECONDS
        if not over:
            time.sleep(POLL_SECONDS)


def _show(path: Path, lines: int, out: BinaryIO) -> None:
    if not path.exists():
        remedy = "it is written once the engine starts; nexus report tells what became of the run"
        raise ConfigError(Problem(f"the run has no {path.name}", key=str(path), remedy=remedy))
    text = LogFollower(path).read_last(lines)
    out.write(text if text.endswith(b"\n") or not text else text + b"\n")
    out.flush()


def _parse_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of lines")
    return int(text)
