"""Run every benchmark, each in a process of its own, and say at the end which goals are met."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "plan": "nexus plan: at most 2 times the smallest @hydra.main script",
    "flags": "flags of an installed vLLM: at least 40 times faster than `vllm serve --help`",
    "monitor": "monitor at 1 Hz: at most 1% of one core and 100 MB RSS",
    "log_flood": "a child that prints 50 MB/s is never blocked, memory stays bounded",
    "field": "logs that people posted: every one judged rightly",
    "sweep": "1,000 points planned in at most 5 s and 300 MiB; 9 of 10 picks within 5 % of the best",
    "planner": "the planner's error on real launches; 1,000 plans in at most 5 s",
}


def main() -> int:
    """Print each benchmark's own table, then the list of goals; the exit code is the number of missed goals."""
    missed = []
    for name, goal in BENCHMARKS.items():
        sys.stdout.write(f"\n=== {name}: {goal}\n\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0:
            missed.append(name)
    sys.stdout.write("\n")
    for name, goal in BENCHMARKS.items():
        sys.stdout.write(f"{'MISSED' if name in missed else 'met   '}  {goal}\n")
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
