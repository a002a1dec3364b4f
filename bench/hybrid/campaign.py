"""Launch cases with nexus-run, one after another on each card, measure each, append one JSON line per case.

    python -m bench.hybrid.campaign --models DIR --out FILE --logs DIR --queue FILE --gpu 0 --gpu 1

The queue is a text file of case names (`grid.py`), read again before each launch, so that it may be changed meanwhile;
a line that is not there any more when its turn comes is not launched, and a name that two lines have is launched twice.

Two launches of a card are alive at a time: the next engine imports its modules while the one before it loads, and waits
at a gate (`gate.py`, a plugin that vLLM loads before it touches the card) until that one is gone. While something is
timed, all other launches of that card are paused, and on no other card anything is timed: the cards share host RAM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.hybrid.grid import Case, make_case
from bench.hybrid.load import measure

READY_SECONDS = 420.0
ALIVE = 2
QUIET_SECONDS = 2.0
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
    """Where launches run."""

    models: Path
    logs: Path
    first_port: int
    extra: tuple[str, ...]


@dataclass
class Queue:
    """The cases of a file that have not been taken yet, in its order."""

    path: Path
    taken: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, models: Path) -> tuple[int, Case] | None:
        """The next case whose model lies in that folder, with a number of its own; None when there is none."""
        with self._lock:
            seen: Counter[str] = Counter()
            for line in self.path.read_text(encoding="utf-8").splitlines():
                name = line.partition("#")[0].strip()
                seen[name] += 1
                if not name or seen[name] <= self.taken[name]:
                    continue
                case = make_case(name)
                if not (models / case.model / "model.safetensors.index.json").exists():
                    continue
                self.taken[name] += 1
                return self.taken.total(), case
            return None


def start(case: Case, place: Place, gpu: str, number: int) -> Launch:
    slug = f"{case.name.replace('/', '-')}-{number:02d}"
    port = place.first_port + number
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
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu, "GATE_FILE": f"/tmp/gate.{gpu}"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    return Launch(case, process, f"http://127.0.0.1:{port}", log, time.time())


def await_one(launches: Sequence[Launch]) -> tuple[Launch, bool]:
    """The first of them that is ready, or that has ended or brought nothing in time (False)."""
    deadline = time.time() + READY_SECONDS
    while time.time() < deadline:
        for launch in launches:
            if launch.process.poll() is not None:
                return launch, False
            with suppress(httpx.HTTPError):
                if httpx.get(f"{launch.url}/health", timeout=2).status_code == 200:
                    return launch, True
        time.sleep(0.2)
    return launches[0], False


def run_case(launch: Launch, ready: bool) -> dict[str, Any]:
    """The measurements of a case that serves; what it said last of one that does not."""
    row: dict[str, Any] = {"case": launch.case.name, "model": launch.case.model, "overrides": launch.case.overrides}
    row["run"] = launch.log.stem
    row["ready_seconds"] = round(time.time() - launch.started, 1)
    if not ready:
        row["failed"] = launch.log.read_text(errors="replace")[-1500:]
        return row
    row["workloads"] = []
    try:
        time.sleep(QUIET_SECONDS)
        for workload in launch.case.warm_up:
            measure(launch.url, workload)
        row["host"] = _read_host(launch.process.pid)
        for workload in launch.case.workloads:
            row["workloads"].append(asdict(measure(launch.url, workload)))
    except (httpx.HTTPError, OSError, psutil.Error) as error:
        row["failed"] = repr(error)
    return row


def stop(launch: Launch) -> int:
    if launch.process.poll() is None:
        launch.process.send_signal(signal.SIGINT)
    try:
        return launch.process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        launch.process.kill()
        return launch.process.wait()


def run_card(gpu: str, queue: Queue, place: Place, out: Path, timing: threading.Lock) -> None:
    """Cases of the queue on one card, until there are no more. Which of two launches passes the gate first is left to
    them."""
    alive: list[Launch] = []
    while True:
        while len(alive) < ALIVE and (found := queue.take(place.models)) is not None:
            alive.append(start(found[1], place, gpu, found[0]))
        if not alive:
            return
        launch, ready = await_one(alive)
        alive.remove(launch)
        with timing, _paused(alive):
            row = run_case(launch, ready)
        row["exit_code"] = stop(launch)
        row["gpu"] = gpu
        row["seconds"] = round(time.time() - launch.started, 1)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} gpu {gpu} {_describe(row)}\n")
        sys.stdout.flush()


@contextmanager
def _paused(launches: Sequence[Launch]) -> Iterator[None]:
    """Their processes do not run meanwhile."""
    family = [process for launch in launches for process in _list_family(launch.process.pid)]
    for process in family:
        with suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in reversed(family):
            with suppress(psutil.Error):
                process.resume()


def _list_family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []


def _read_host(pid: int) -> dict[str, int]:
    memory = psutil.virtual_memory()
    return {
        "family_rss_bytes": sum(process.memory_info().rss for process in _list_family(pid)),
        "available_bytes": memory.available,
        "total_bytes": memory.total,
    }


def _describe(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['case']}: exit {row['exit_code']}: {row['failed'][-300:]!r}"
    speeds = [
        f"{w['workload']['requests']}x{w['workload']['input_tokens']}: {w['tokens_per_second']:.2f}"
        f" ({w['decode_tokens_per_second']}, ttft {w['first_token_seconds']:.2f})"
        for w in row["workloads"]
    ]
    return f"{row['case']}: ready {row['ready_seconds']:.0f} s, all {row['seconds']:.0f} s; {'; '.join(speeds)}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--queue", type=Path, required=True)
    parser.add_argument("--gpu", action="append", default=[])
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--extra", action="append", default=[], help="an override for every launch")
    args = parser.parse_args(argv)
    args.logs.mkdir(parents=True, exist_ok=True)
    place = Place(args.models, args.logs, args.port, tuple(args.extra))
    queue, timing = Queue(args.queue), threading.Lock()
    cards = [threading.Thread(target=run_card, args=(gpu, queue, place, args.out, timing)) for gpu in args.gpu or ["0"]]
    for card in cards:
        card.start()
    for card in cards:
        card.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
