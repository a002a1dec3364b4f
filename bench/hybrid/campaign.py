"""Launch cases one after another with nexus-run, measure each, append one JSON line per case.

    python -m bench.hybrid.campaign --models DIR --out FILE --gpu 0 qwen14b:compare qwen14b:grid

The next engine imports its modules while the one before it is measured, and waits at a gate (`gate.py`, a plugin that
vLLM loads before it touches the card) until the other one is gone: so no launch disturbs a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.hybrid.grid import Case, comparison, grid
from bench.hybrid.load import Workload, measure

READY_SECONDS = 420.0
QUIET_SECONDS = 3.0
"""nexus-run asks a freshly ready server one completion itself; nothing is timed beside it."""


@dataclass
class Launch:
    """A case whose nexus-run has been started."""

    case: Case
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    started: float


@dataclass(frozen=True)
class Place:
    """Where a chain of launches runs."""

    models: Path
    logs: Path
    gpu: str
    first_port: int
    extra: tuple[str, ...]


def start(case: Case, place: Place, number: int) -> Launch:
    port = place.first_port + number
    slug = case.name.replace("/", "-")
    argv = [
        sys.executable,
        "-c",
        "import sys; from nexus_orch.cli import main_run; sys.exit(main_run())",
        f"name={slug}",
        "model=local",
        f"model.path={place.models / case.model}",
        f"serve.port={port}",
        "limits.startup_stall_seconds=600",
        "limits.attempts=1",
        "probe.then=serve",
        *case.overrides,
        *place.extra,
    ]
    log = place.logs / f"{slug}.log"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": place.gpu, "GATE_FILE": f"/tmp/gate.{place.gpu}"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    return Launch(case, process, f"http://127.0.0.1:{port}", log, time.time())


def await_ready(launch: Launch) -> bool:
    """True when it answers a completion; False when nexus-run has ended or nothing came in time."""
    deadline = time.time() + READY_SECONDS
    while time.time() < deadline and launch.process.poll() is None:
        try:
            if httpx.get(f"{launch.url}/health", timeout=2).status_code == 200:
                _warm_up(launch)
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    return False


def _warm_up(launch: Launch) -> None:
    """One step of each workload, so that no kernel is compiled while it is timed."""
    time.sleep(QUIET_SECONDS)
    for workload in launch.case.workloads:
        measure(launch.url, replace(workload, output_tokens=2))


def run_case(launch: Launch, ready: bool) -> dict[str, Any]:
    """The measurements of a case that serves; what it said last of one that does not."""
    row: dict[str, Any] = {"case": launch.case.name, "model": launch.case.model, "overrides": launch.case.overrides}
    row["ready_seconds"] = round(time.time() - launch.started, 1)
    if not ready:
        row["failed"] = launch.log.read_text(errors="replace")[-1500:]
        return row
    row["host"] = _read_host(launch.process.pid)
    row["workloads"] = []
    for workload in launch.case.workloads:
        try:
            row["workloads"].append(asdict(measure(launch.url, workload)))
        except (httpx.HTTPError, OSError) as error:
            row["workloads"].append({"workload": asdict(workload), "failed": repr(error)})
    return row


def stop(launch: Launch) -> int:
    if launch.process.poll() is None:
        launch.process.send_signal(signal.SIGINT)
    try:
        return launch.process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        launch.process.kill()
        return launch.process.wait()


def _read_host(pid: int) -> dict[str, int]:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    memory = psutil.virtual_memory()
    return {
        "family_rss_bytes": sum(process.memory_info().rss for process in family),
        "available_bytes": memory.available,
        "total_bytes": memory.total,
    }


def run_chain(cases: Sequence[Case], place: Place, out: Path) -> None:
    """Each case in turn; the next one is started as soon as the one before it serves."""
    queue = list(enumerate(cases))
    current = start(queue[0][1], place, 0)
    for position, _ in queue:
        ready = await_ready(current)
        following = start(queue[position + 1][1], place, position + 1) if position + 1 < len(queue) else None
        row = run_case(current, ready)
        row["exit_code"] = stop(current)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} gpu {place.gpu} {_describe(row)}\n")
        sys.stdout.flush()
        if following is not None:
            current = following


def _describe(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['case']}: exit {row['exit_code']}: {row['failed'][-300:]!r}"
    speeds = [
        f"{w['workload']['requests']}x{w['workload']['input_tokens']}: {w['tokens_per_second']:.2f} t/s"
        f" (decode {w['decode_tokens_per_second']}, ttft {w['first_token_seconds']:.2f})"
        if "tokens_per_second" in w
        else "failed"
        for w in row["workloads"]
    ]
    return f"{row['case']}: ready {row['ready_seconds']:.0f} s; {'; '.join(speeds)}"


def _choose(words: Sequence[str]) -> Iterator[Case]:
    """`MODEL:grid`, `MODEL:compare`, or a file of cases as JSON."""
    for word in words:
        model, _, kind = word.partition(":")
        if word.endswith(".json"):
            for found in json.loads(Path(word).read_text(encoding="utf-8")):
                loads = tuple(Workload(*numbers) for numbers in found["workloads"])
                yield Case(found["name"], found["model"], tuple(found["overrides"]), loads)
        else:
            yield from grid(model) if kind == "grid" else comparison(model)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--gpu", default="0")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("cases", nargs="+")
    args = parser.parse_args()
    args.logs.mkdir(parents=True, exist_ok=True)
    place = Place(args.models, args.logs, args.gpu, args.port, tuple(args.extra))
    run_chain(list(_choose(args.cases)), place, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
