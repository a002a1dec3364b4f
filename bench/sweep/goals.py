"""The goals of a sweep: how fast points are planned and decisions made, and how good the picks are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.sweep.table import render_results

WORLDS = sorted(path for path in (Path(__file__).parent.parent / "worlds").glob("*.py") if "GRID" in path.read_text())
SEEDS = range(10)
MOST_SECONDS, MOST_MIB = 5.0, 300.0
MOST_SECONDS_A_DECISION = 0.3
MOST_SHARE = 0.01
MOST_MISSED = 0.1
MOST_FAILED_STARTS = 3

EXPAND = """
import json, resource, time
begin = time.process_time()
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.sweep.expansion.planned import plan_points
from nexus_orch.sweep.search.decide import decide
from nexus_orch.sweep.types import Goal, Task
base = ["hardware=rtx4090", "model=qwen14b", "memory=hybrid", "engine.version=0.32.0"]
grid = {
    "memory.gpu_memory_utilization": [0.86, 0.88, 0.9, 0.92, 0.94],
    "memory.cpu_offload_gib": [4, 8, 10, 12, 14],
    "model.max_model_len": [2048, 4096, 8192, 16384, 32768],
    "serve.max_num_seqs": [16, 32, 64, 256],
    "memory.enforce_eager": [True, False],
}
found = plan_points(base, grid, load_plugins(None))
decision = decide(Task(found.points, Goal(concurrency=found.concurrency)), [])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"points": len(found.points), "seconds": time.process_time() - begin, "mib": peak}))
"""


def check_goals(run: Callable[[Path], list[dict[str, Any]]]) -> int:
    """Print what was measured beside the goals; the exit code is the number of missed goals. `run` plays a world."""
    done = subprocess.run([sys.executable, "-c", EXPAND], check=True, capture_output=True, text=True)
    expanded = json.loads(done.stdout)
    results = {path.stem: run(path) for path in WORLDS}
    sys.stdout.write(render_results(results) + "\n")
    every = [one for found in results.values() for one in found]
    share = max(one["seconds"] / (60 * one["minutes"]) for one in every)
    goals = [
        (f"{expanded['points']} points expanded, planned and ordered", expanded["seconds"], MOST_SECONDS, "s"),
        ("the memory that it takes", expanded["mib"], MOST_MIB, "MiB"),
        ("the longest decision", max(one["longest"] for one in every), MOST_SECONDS_A_DECISION, "s"),
        ("the search's own share of a sweep's time", share * 100, MOST_SHARE * 100, "%"),
    ]
    for name, found in results.items():
        missed = sum(one["quality"] < 0.95 for one in found) / len(found)
        failed = sorted(one["failed_starts"] for one in found)[len(found) // 2]
        goals.append((f"{name}: picks more than 5 % below the best", missed * 100, 100 * MOST_MISSED, "%"))
        goals.append((f"{name}: failed starts in the median", failed, MOST_FAILED_STARTS, ""))
    goals.append(("points called stable that are not", sum(one["false_stable"] for one in every), 0, ""))
    for name, value, most, unit in goals:
        sys.stdout.write(f"{name:60} {value:8.2f} {unit:4} goal: at most {most:g}\n")
    return sum(value > most for _, value, most, _ in goals)
