"""`nexus plan` against the smallest possible `@hydra.main` script: at most 2 times its wall time.

The two are run in turn, so that whatever else the machine does hits both alike; the medians are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
GOAL = 2.0

SMALLEST = """
import hydra
from omegaconf import DictConfig

@hydra.main(version_base=None, config_path=None)
def main(config: DictConfig) -> None:
    pass

main()
"""


def main() -> int:
    """Print the table; 0 when the goal is met, 1 otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "smallest.py"
        script.write_text(SMALLEST, encoding="utf-8")
        smallest = [sys.executable, str(script), "hydra.run.dir=.", "hydra.output_subdir=null"]
        nexus = str(Path(sys.executable).with_name("nexus"))
        plan = [nexus, "plan", "hardware=rtx4090x2", "model=qwen32b", "memory=hybrid"]
        environment = {**os.environ, "NEXUS_HOME": str(Path(folder) / "home")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # both as installed: with their bytecode cached
        for command in (smallest, plan):
            _seconds(command, folder, environment)  # warms the page cache and the bytecode
        pairs = [(_seconds(smallest, folder, environment), _seconds(plan, folder, environment)) for _ in range(ROUNDS)]
    base = statistics.median(pair[0] for pair in pairs)
    ours = statistics.median(pair[1] for pair in pairs)
    sys.stdout.write(
        f"smallest @hydra.main script   {base * 1000:7.0f} ms (median of {ROUNDS})\n"
        f"nexus plan                    {ours * 1000:7.0f} ms (median of {ROUNDS})\n"
        f"ratio                         {ours / base:7.2f}    goal: at most {GOAL:g}\n"
    )
    return 0 if ours <= GOAL * base else 1


def _seconds(command: list[str], cwd: str, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
