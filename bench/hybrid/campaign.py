"""Launch cases with nexus-run, several side by side, time one at a time, append one JSON line per case.

    python -m bench.hybrid.campaign --models DIR --out FILE --logs DIR --queue FILE --gpu 0 --gpu 1 --host-gib 150

The queue is a text file of case names (`grid.py`), read again before each launch, so that it may be changed meanwhile;
a line that is not there any more when its turn comes is not launched, and a name that two lines have is launched twice.
A case waits for its model to be there. A line `host-gib N` changes the RAM that all launches may take together.

Loading takes many times as long as timing. So a case is launched as soon as a card and host RAM have room for it, by
the planner's own account (`room.py`), and its KV cache is given, not what is left of the card: vLLM measures that
wrongly beside others. A line that ends in `alone` has a card to itself and the KV cache that vLLM finds. One case is
timed at a time, and all others of its card are stopped meanwhile; those of all cards where the processors decide, which
they share (`Case.is_processor_bound`). A case that fails is launched once more, some time later.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.hybrid.grid import Case, make_case
from bench.hybrid.load import measure
from bench.hybrid.room import Need, Room, find_need

READY_SECONDS = 900.0
TRIAL_SECONDS = 90.0
"""nexus-run asks a freshly ready server one completion itself; nothing is timed beside it."""
_TRIAL_IS_OVER = re.compile(r"^ +one request  +", re.MULTILINE)
TRIES = 2
BEFORE_NEXT_TRY_SECONDS = 40.0
QUIET_SECONDS = 1.0
HOST_WORD = "host-gib"
KV_CACHE = "memory.kv_cache.size_gib=6"
"""Of a launch beside others: 16 requests of 1,024 tokens of each model of the grid."""


@dataclass(frozen=True)
class Entry:
    """One line of the queue."""

    case: Case
    is_alone: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        return self.case.overrides if self.is_alone else (*self.case.overrides, KV_CACHE)


@dataclass
class Launch:
    """A case whose nexus-run has been started."""

    entry: Entry
    gpu: str
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    started: float
    answered: float | None = None
    """When it was first seen ready."""

    def is_ready(self) -> bool:
        """Whether the server answers and nexus-run's own trial is over."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        if "ready after" not in text:
            return False
        self.answered = self.answered or time.time()
        return bool(_TRIAL_IS_OVER.search(text)) or time.time() - self.answered > TRIAL_SECONDS

    def has_ended(self) -> bool:
        """Whether its engine has: nexus-run itself waits longer where a neighbour has taken the card's memory."""
        return self.process.poll() is not None or b"the engine exited with" in self.log.read_bytes()

    def is_late(self) -> bool:
        return time.time() - self.started > READY_SECONDS


@dataclass(frozen=True)
class Place:
    """Where launches run."""

    models: Path
    logs: Path
    first_port: int
    extra: tuple[str, ...]


@dataclass
class Queue:
    """The entries of a file that have not been taken yet, in its order."""

    path: Path
    taken: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    not_before: dict[str, float] = field(default_factory=dict)

    def waiting(self) -> Iterator[Entry]:
        seen: Counter[str] = Counter()
        for name, manner in self._lines():
            seen[name] += 1
            if name != HOST_WORD and seen[name] > self.taken[name]:
                with suppress(ValueError):  # perhaps just being written; `mistakes` tells what stays so
                    yield Entry(make_case(name), manner == "alone")

    def mistakes(self) -> Iterator[str]:
        """Why a line says nothing."""
        for name, rest in self._lines():
            try:
                float(rest) if name == HOST_WORD else make_case(name)
            except ValueError as error:
                yield f"{name}: {error}"

    def host_gib(self) -> float | None:
        """What the file says of host RAM, the last line that does."""
        for name, number in reversed(self._lines()):
            with suppress(ValueError):
                if name == HOST_WORD:
                    return float(number)
        return None

    def _lines(self) -> list[tuple[str, str]]:
        """First word and the rest of each line that says something."""
        lines = [line.partition("#")[0].split(maxsplit=1) for line in self.path.read_text("utf-8").splitlines()]
        return [(words[0], words[1].strip() if words[1:] else "") for words in lines if words]

    def take(self, entry: Entry) -> int:
        """A number of its own for an entry that is launched."""
        self.taken[entry.case.name] += 1
        return self.taken.total() + self.failures.total()

    def give_back(self, entry: Entry) -> None:
        """It failed: it is launched again, if it has not failed too often."""
        name = entry.case.name
        self.failures[name] += 1
        if self.failures[name] < TRIES:
            self.taken[name] -= 1
            self.not_before[name] = time.time() + BEFORE_NEXT_TRY_SECONDS

    def is_due(self, entry: Entry) -> bool:
        return time.time() >= self.not_before.get(entry.case.name, 0.0)


def start(entry: Entry, place: Place, gpu: str, number: int) -> Launch:
    case = entry.case
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
        f"limits.startup_stall_seconds={READY_SECONDS:.0f}",
        "limits.attempts=1",
        "probe.then=serve",
        *entry.overrides,
        *place.extra,
    ]
    log = place.logs / f"{slug}.log"
    with log.open("wb") as file:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
        process = subprocess.Popen(
            argv, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    return Launch(entry, gpu, process, f"http://127.0.0.1:{port}", log, time.time())


def run_case(launch: Launch) -> dict[str, Any]:
    """The measurements of a case that serves."""
    row = _describe_launch(launch)
    row["workloads"] = []
    try:
        time.sleep(QUIET_SECONDS)
        for workload in launch.entry.case.warm_up:
            measure(launch.url, workload)
        row["host"] = _read_host(launch.process.pid)
        for workload in launch.entry.case.workloads:
            row["workloads"].append(asdict(measure(launch.url, workload)))
    except (httpx.HTTPError, OSError, psutil.Error) as error:
        row["failed"] = repr(error)
    return row


def _describe_launch(launch: Launch) -> dict[str, Any]:
    entry = launch.entry
    return {
        "case": entry.case.name,
        "model": entry.case.model,
        "overrides": entry.overrides,
        "alone": entry.is_alone,
        "run": launch.log.stem,
        "gpu": launch.gpu,
        "ready_seconds": None if launch.answered is None else round(launch.answered - launch.started, 1),
    }


def stop(launch: Launch) -> None:
    """Tell it to stop; who waits for it is a thread of its own."""
    launch.process.send_signal(signal.SIGINT)

    def wait() -> None:
        try:
            launch.process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            launch.process.kill()

    threading.Thread(target=wait, daemon=True).start()


@dataclass
class Campaign:
    """What is alive, and what it leaves of the machine."""

    queue: Queue
    place: Place
    out: Path
    room: Room
    most: int
    alive: list[Launch] = field(default_factory=list)
    ending: list[Launch] = field(default_factory=list)
    needs: dict[tuple[str, bool], Need] = field(default_factory=dict)

    def run(self) -> None:
        """Until the queue is empty and all that was launched has been timed."""
        while self._start_what_fits() or self.alive or self.ending:
            self._forget_ended()
            launch = next((launch for launch in self.alive if launch.is_ready() or launch.is_late()), None)
            if launch is None:
                time.sleep(0.3)
                continue
            self.alive.remove(launch)
            with _paused(self._rivals(launch)):
                row = run_case(launch)
            if "failed" in row:
                self.queue.give_back(launch.entry)
            stop(launch)
            self.ending.append(launch)
            self._write(row)

    def _rivals(self, timed: Launch) -> list[Launch]:
        everywhere = timed.entry.case.is_processor_bound
        return [each for each in self.alive if everywhere or each.gpu == timed.gpu]

    def _start_what_fits(self) -> bool:
        """Start every case that has room, in the queue's order; whether any was left."""
        waiting = list(self.queue.waiting())
        for entry in waiting:
            gpu = self._find_card(entry)
            if gpu is not None:
                self.alive.append(start(entry, self.place, gpu, self.queue.take(entry)))
        return bool(waiting)

    def _find_card(self, entry: Entry) -> str | None:
        is_there = (self.place.models / entry.case.model / "model.safetensors.index.json").exists()
        if not is_there or not self.queue.is_due(entry) or len(self.alive) >= self.most:
            return None
        host_gib = self.queue.host_gib()
        room = self.room if host_gib is None else replace(self.room, host_gib=host_gib)
        return room.find_card(self._need(entry), self._taken())

    def _need(self, entry: Entry) -> Need:
        key = (entry.case.name, entry.is_alone)
        if key not in self.needs:
            self.needs[key] = find_need(entry.case.model, entry.overrides, is_alone=entry.is_alone)
        return self.needs[key]

    def _taken(self) -> list[tuple[str, Need]]:
        """By card: of those that serve already, what loading takes is free again."""
        found = []
        for launch in [*self.alive, *self.ending]:
            need = self._need(launch.entry)
            found.append((launch.gpu, need if launch.answered is None else need.after_loading()))
        return found

    def _forget_ended(self) -> None:
        self.ending = [launch for launch in self.ending if not launch.has_ended()]
        for launch in [launch for launch in self.alive if launch.has_ended()]:
            self.alive.remove(launch)
            self.queue.give_back(launch.entry)
            said = launch.log.read_text(encoding="utf-8", errors="replace")[-1500:]
            self._write({**_describe_launch(launch), "failed": said})

    def _write(self, row: dict[str, Any]) -> None:
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} gpu {row['gpu']} {_render(row)}\n")
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


def _render(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['case']}: {row['failed'][-300:]!r}"
    speeds = [
        f"{w['workload']['requests']}x{w['workload']['input_tokens']}: {w['tokens_per_second']:.2f}"
        f" ({w['decode_tokens_per_second']}, ttft {w['first_token_seconds']:.2f})"
        for w in row["workloads"]
    ]
    return f"{row['case']}: ready {row['ready_seconds']} s; {'; '.join(speeds)}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--queue", type=Path, required=True)
    parser.add_argument("--gpu", action="append", default=[])
    parser.add_argument("--host-gib", type=float, required=True, help="host RAM for all launches together")
    parser.add_argument("--most", type=int, default=8, help="as many launches are alive at most")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--extra", action="append", default=[], help="an override for every launch")
    args = parser.parse_args(argv)
    args.logs.mkdir(parents=True, exist_ok=True)
    place = Place(args.models, args.logs, args.port, tuple(args.extra))
    room = Room(tuple(args.gpu or ["0"]), args.host_gib)
    campaign = Campaign(Queue(args.queue), place, args.out, room, args.most)
    try:
        campaign.run()
    finally:
        for launch in campaign.alive:
            stop(launch)
    mistakes = list(campaign.queue.mistakes())
    sys.stderr.writelines(f"not launched: {mistake}\n" for mistake in mistakes)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
