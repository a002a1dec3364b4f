"""What a campaign left, as launches of bench/data: `python -m bench.hybrid.collect ROWS RUNS HOST`.

ROWS is the campaign's file of JSON lines, RUNS the folder of run records that its launches wrote (`NEXUS_HOME`/runs).
HOST names the machine; what its bus gave is added to the data by hand under that name, and so is what disturbed a
workload.
Prints the launches that were measured, and on standard error those that were not and why.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nexus_orch.judge.log.measured import RankMeasured
from nexus_orch.judge.log.reading import LogReading, follow
from nexus_orch.observe.log_text import read_log_lines
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import RunRecord

RATES = ("tokens_per_second", "first_token_seconds", "decode_tokens_per_second")
GIB = 1 << 30
GB = 10**9


def collect(rows: Path, runs: Path, host: str) -> Iterator[dict[str, Any]]:
    """Each measured row with what its run's record and its engine's log tell."""
    records = [read_run(folder) for folder in runs.iterdir()]
    by_name = {record.name: record for record in records}
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "failed" in row or "workloads" not in row:
            sys.stderr.write(f"{row['case']}: {row.get('failed', 'not measured')[-300:]}\n")
            continue
        yield {**_make_launch(row, by_name[row["run"]]), "host": host}


def _make_launch(row: Mapping[str, Any], record: RunRecord) -> dict[str, Any]:
    attempt = record.attempts[-1]
    plan, reading = attempt.plan, LogReading()
    for line in read_log_lines(str(record.path)):
        reading = follow(reading, line)
    rank = next((rank for rank in reading.measured.ranks.values() if rank.weights_bytes), RankMeasured())
    settings = {choice["key"]: choice["value"] for choice in plan["choices"]}
    return {
        "case": row["case"],
        "date": None if record.started is None else time.strftime("%Y-%m-%d", time.gmtime(record.started)),
        "model": row["model"],
        "overrides": row["overrides"],
        "backend": settings.get("memory.offload_backend") if rank.offloaded_bytes else None,
        "planned": _planned(plan),
        "measured": {**_measured(rank, record.measured), **_groups(settings)},
        "host_rss_bytes": row["host"]["family_rss_bytes"],
        **({} if row["alone"] else {"kv_cache": "given"}),
        "ready_seconds": _ready_seconds(record) if row["alone"] else None,
        "workloads": [_flatten(each) for each in row["workloads"]],
    }


def _planned(plan: Mapping[str, Any]) -> dict[str, Any]:
    card, host = plan["per_gpu"][0], plan["host"]
    prediction = plan["prediction"]
    return {
        "weights_gib": round(card["weights_bytes"] / GIB, 3),
        "kv_tokens": plan["kv_cache_tokens"],
        "offloaded_bytes": card["offloaded_bytes"],
        "host_bytes": host["required_bytes"] - host.get("loading_bytes", 0),
        "pinned_bytes": host["pinned_bytes"],
        "graphs_bytes": card["cuda_graph_bytes"],
        "decode_tokens_per_second": prediction["decode_tokens_per_second"],
    }


def _measured(rank: RankMeasured, numbers: Mapping[str, float]) -> dict[str, Any]:
    weights, cache, graphs = rank.weights_bytes, rank.kv_cache_bytes, rank.cuda_graph_bytes
    return {
        "weights_gib": None if weights is None else round(weights / GIB, 2),
        "kv_gib": None if cache is None else round(cache / GIB, 2),
        "kv_tokens": int(numbers["kv_cache_tokens"]),
        "graphs_gib": None if graphs is None else round(graphs / GIB, 2),
        **({"buffer_gb": rank.static_pool_bytes / GB} if rank.static_pool_bytes else {}),
        "offloaded_bytes": rank.offloaded_bytes or 0,
    }


def _groups(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = ("group_size", "num_in_group", "step")
    groups = [settings[f"memory.prefetch.{name}"] for name in names if f"memory.prefetch.{name}" in settings]
    return {"groups": groups} if groups else {}


def _ready_seconds(record: RunRecord) -> float | None:
    """From the launch of the engine to the first answer."""
    attempt = record.attempts[-1]
    ready = next((when for stage, when in attempt.stages if stage.value == "ready"), None)
    return None if ready is None or attempt.started is None else round(ready - attempt.started, 1)


def _flatten(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The workload and its rates as one record; the seconds follow from them."""
    return {
        **measured["workload"],
        **{name: measured[name] for name in measured if name not in ("workload", "seconds")},
    }


def main() -> int:
    for launch in collect(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]):
        sys.stdout.write(json.dumps(launch) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
