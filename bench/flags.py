"""Reading the options of an installed vLLM from its sources against `vllm serve --help`: at least 40 times faster, and
1,000 times from the cache.

    python -m bench.flags [PYTHON_OF_THE_ENGINE]

Both are measured in the same run. "cold" reads and evaluates the source files, "cached" only looks whether they
changed; "process" is a new interpreter that does the same from the start.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.installed import read_engine
from nexus_orch.install.engines.installed import choose_newest, read_engines

GOAL = 40.0
CACHED_GOAL = 1000.0
ROUNDS = 5
HELP_ROUNDS = 2

_CODE = "import sys; from nexus_orch.facts.engine.installed import read_engine; read_engine(sys.argv[1])"


def main() -> int:
    """Print the table; 0 when both goals are met."""
    python = find_engine_python(sys.argv[1:])
    with tempfile.TemporaryDirectory() as home:
        os.environ["NEXUS_HOME"] = home
        rows = measure(python, Path(home))
    help_seconds = rows[0][1]
    table = Table("what", "seconds", "times faster", box=None, pad_edge=False)
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.4f}", "" if name == rows[0][0] else f"{help_seconds / seconds:.0f}")
    console = Console()
    console.print(table)
    factor, cached = help_seconds / rows[1][1], help_seconds / rows[2][1]
    console.print(f"goals: {GOAL:.0f} and {CACHED_GOAL:,.0f} times, reached: {factor:.0f} and {cached:,.0f} times")
    return 0 if factor >= GOAL and cached >= CACHED_GOAL else 1


def find_engine_python(arguments: list[str]) -> Path:
    """The interpreter that is named, else that of the newest engine that nexus_orch installed. Raises ConfigError."""
    if arguments:
        return Path(arguments[0])
    newest = choose_newest(read_engines())
    if newest is None or newest.python is None:
        raise ConfigError(Problem("no engine is installed", remedy="`nexus engine install cpu`, or name its python"))
    return newest.python


def measure(python: Path, home: Path) -> list[tuple[str, float]]:
    """Median seconds of each way; the yardstick first."""

    def cold() -> None:
        for file in home.rglob("*.json"):
            file.unlink()
        read_engine(python)

    def process() -> None:
        subprocess.run([sys.executable, "-c", _CODE, str(python)], check=True)

    def cold_process() -> None:
        for file in home.rglob("*.json"):
            file.unlink()
        process()

    cold()  # the files are in the page cache for both sides
    return [
        ("vllm serve --help", median_seconds(lambda: run_help(python), HELP_ROUNDS)),
        ("options from the sources, cold", median_seconds(cold, ROUNDS)),
        ("options from the sources, cached", median_seconds(lambda: read_engine(python), ROUNDS)),
        ("the same, cold, whole process", median_seconds(cold_process, ROUNDS)),
        ("the same, cached, whole process", median_seconds(process, ROUNDS)),
    ]


def run_help(python: Path) -> None:
    """`vllm serve --help` in the engine's environment."""
    environment = {**os.environ, "VLLM_TARGET_DEVICE": "cpu", "PYTHONSAFEPATH": "1"}
    command = [str(python), "-m", "vllm.entrypoints.cli.main", "serve", "--help"]
    subprocess.run(command, env=environment, capture_output=True, check=True)


def median_seconds(action: Callable[[], object], rounds: int) -> float:
    """The median wall time of an action."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
