"""`nexus ps`: the runs of this machine, and the engines that a killed supervisor left behind."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

from nexus_orch.commands.known_runs import find_left_over, read_ended, read_open_runs
from nexus_orch.errors import ExitCode
from nexus_orch.launch.processes.supervisor import is_elsewhere
from nexus_orch.record.history import HistoryRow
from nexus_orch.record.run_record import RunRecord
from nexus_orch.view.server import GENERATION_RATE
from nexus_orch.view.words import NOTHING, render_bytes, render_columns, render_duration, render_rate

HEADER = ("run", "model", "state", "url", "pid", "up", "GPU memory", "tokens/s")
RIGHT_COLUMNS = (4, 5, 6, 7)
STALE_SECONDS = 30.0
"""Samples older than this say nothing about now."""


@dataclass(frozen=True)
class LeftOver:
    pid: int
    name: str
    rss_bytes: int


@dataclass(frozen=True)
class ShownRun:
    """One line of the list. `gpu_memory_bytes` is what is used of its cards together, by this run or others."""

    id: str
    model: str
    state: str
    folder: str
    stage: str | None = None
    progress: float | None = None
    stopping: bool = False
    host: str = ""
    url: str | None = None
    pid: int | None = None
    """The engine's main process."""
    supervisor_pid: int | None = None
    started: float | None = None
    ended: float | None = None
    uptime_seconds: float | None = None
    gpu_memory_bytes: int | None = None
    tokens_per_second: float | None = None
    exit_code: int | None = None
    cause: str | None = None
    reason: str = ""
    orphans: tuple[LeftOver, ...] = ()
    """Engine processes that live although the supervisor is gone."""
    notes: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="the runs that have ended, too")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    shown = list_runs(include_ended=args.all, now=time.time())
    if args.format == "json":
        sys.stdout.write(json.dumps([asdict(line) for line in shown], indent=1) + "\n")
    else:
        sys.stdout.write(render_runs(shown))
    return ExitCode.GOOD


def list_runs(*, include_ended: bool, now: float) -> list[ShownRun]:
    """The runs that are on and the lost ones with processes left over; with `include_ended` all that are known."""
    ended = read_ended()
    shown = []
    for record in read_open_runs(ended):
        left = _find_left(record)
        if include_ended or left or not record.is_over:
            shown.append(_show_open(record, left, now))
    if include_ended:
        shown += map(_show_ended, ended.values())
    return sorted(shown, key=lambda line: line.id)


def render_runs(shown: list[ShownRun]) -> str:
    """The list as a table, with what is wrong underneath."""
    if not shown:
        return "nothing runs; the ended runs: nexus ps --all\n"
    warnings = [
        f"\n{line.id}: its supervisor is gone, but {_describe_left(line.orphans)}; nexus stop {line.id}\n"
        for line in shown
        if line.orphans
    ]
    return render_columns(HEADER, [_make_row(line) for line in shown], RIGHT_COLUMNS) + "".join(warnings)


def _find_left(record: RunRecord) -> tuple[LeftOver, ...]:
    return tuple(
        LeftOver(process.key.pid, process.name, process.rss_bytes)
        for process in (find_left_over(record) if record.state == "lost" else ())
    )


def _show_open(record: RunRecord, orphans: tuple[LeftOver, ...], now: float) -> ShownRun:
    latest = record.latest
    is_fresh = now - latest.time < STALE_SECONDS and not record.is_over
    gpus = latest.gpus if is_fresh else ()
    metrics = latest.metric.values if is_fresh and latest.metric is not None else {}
    return ShownRun(
        id=record.id,
        model=record.model,
        state=record.state,
        folder=str(record.path),
        stage=None if record.stage is None else record.stage.value,
        progress=record.progress,
        stopping=record.stopping,
        host=record.host,
        url=record.url,
        pid=None if record.engine is None else record.engine.pid,
        supervisor_pid=None if record.supervisor is None else record.supervisor.pid,
        started=record.started,
        uptime_seconds=None if record.started is None else max(0.0, now - record.started),
        gpu_memory_bytes=sum(gpu.memory_used_bytes for gpu in gpus) if gpus else None,
        tokens_per_second=metrics.get(GENERATION_RATE),
        reason=record.reason,
        orphans=orphans,
        notes=record.notes,
    )


def _show_ended(row: HistoryRow) -> ShownRun:
    took = row.ended - row.started if row.ended is not None and row.started is not None else None
    return ShownRun(
        id=row.id,
        model=row.model,
        state=row.state or "lost",
        folder=row.folder,
        host=row.host,
        started=row.started,
        ended=row.ended,
        uptime_seconds=took,
        tokens_per_second=row.tokens_per_second,
        exit_code=row.exit_code,
        cause=row.cause,
        reason=row.reason,
    )


def _make_row(line: ShownRun) -> tuple[str, ...]:
    return (
        line.id,
        line.model or NOTHING,
        _describe_state(line),
        line.url or NOTHING,
        NOTHING if line.pid is None else str(line.pid),
        render_duration(line.uptime_seconds),
        render_bytes(line.gpu_memory_bytes),
        render_rate(line.tokens_per_second),
    )


def _describe_state(line: ShownRun) -> str:
    if line.orphans:
        return "ORPHAN"
    if line.stopping:
        return "stopping"
    text = line.state
    if line.state == "starting" and line.stage is not None:
        progress = "" if line.progress is None else f" {line.progress:.0%}"
        text = f"{line.stage}{progress}"
    elif line.cause is not None:
        text = f"{line.state}: {line.cause}"
    return f"{text} on {line.host}" if is_elsewhere(line.host) else text


def _describe_left(orphans: tuple[LeftOver, ...]) -> str:
    pids = ", ".join(str(process.pid) for process in orphans)
    count = "1 engine process lives" if len(orphans) == 1 else f"{len(orphans)} engine processes live"
    return f"{count} ({pids}) with {render_bytes(sum(process.rss_bytes for process in orphans))} of RAM"
