"""`python -m bench.sweep --world FILE.py --seeds 0-39 [--json]`: whole searches on a simulated machine.

Without --world the shipped worlds are played with ten seeds, and the goals of a sweep are checked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.sweep.goals import SEEDS, check_goals
from bench.sweep.score import score
from bench.sweep.search import make_task
from bench.sweep.table import render_results
from bench.sweep.world import World
from nexus_orch.errors import NexusError
from nexus_orch.sweep.types import Task


def main() -> int:
    args = _parse()
    if args.world is None:
        return check_goals(lambda path: list(run_seeds(path, SEEDS, jobs=args.jobs, with_others=False)))
    try:
        results = list(run_seeds(args.world, args.seeds, jobs=args.jobs, with_others=not args.alone))
    except NexusError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    sys.stdout.write(json.dumps(results, indent=1) + "\n" if args.json else render_results({args.world.stem: results}))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description="Whole searches on a simulated machine.")
    parser.add_argument("--world", type=Path, help="a file that defines GRID, BASE and make(seed)")
    parser.add_argument("--seeds", type=_read_seeds, default=range(40), help="numbers and ranges: 0-39 or 1,5,7-9")
    parser.add_argument("--json", action="store_true", help="print a list with one object for each seed")
    parser.add_argument("--alone", action="store_true", help="leave out TPE, random choice and the grid")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds played at the same time")
    args = parser.parse_args()
    if args.world is not None and not args.world.is_file():
        parser.error(f"there is no file {args.world}")
    return args


def _read_seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            seeds += range(int(first), int(last or first) + 1)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r} is neither a number nor a range such as 0-39") from None
    return seeds


def run_seeds(path: Path, seeds: Sequence[int], *, jobs: int, with_others: bool) -> Iterator[dict[str, Any]]:
    """The score of each seed, in their order; the same whatever the number of jobs."""
    _prepare(path)
    work = [(path, seed, with_others) for seed in seeds]
    if jobs <= 1:
        yield from map(_run_seed, work)
        return
    with multiprocessing.get_context("fork").Pool(min(jobs, len(work) or 1)) as pool:
        yield from pool.imap(_run_seed, work)


def _run_seed(work: tuple[Path, int, bool]) -> dict[str, Any]:
    path, seed, with_others = work
    world, task = _prepare(path)
    return score(world, task, seed, with_others=with_others)


@cache
def _prepare(path: Path) -> tuple[World, Task]:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # small matrices: threads of several processes only hinder each other
    world = World(path)
    return world, make_task(world)


if __name__ == "__main__":
    sys.exit(main())
