"""`nexus ps`: the runs of this machine, and the engines that a killed supervisor left behind."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace

from nexus_orch.commands.known_runs import read_ended, read_open_runs
from nexus_orch.contracts import LeftProcess
from nexus_orch.errors import ExitCode, NexusError
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
    orphans: tuple[LeftProcess, ...] = ()
    """Engine processes that live although the supervisor is gone."""
    left_over: bool = False
    """The engine is there although the supervisor is gone, whether its processes can be seen from here or not."""
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
        line = _show_open(record, now)
        if record.state == "lost" and not is_elsewhere(record.host):
            line = _with_left_over(line, record)
        if include_ended or line.left_over or not record.is_over:
            shown.append(line)
    if include_ended:
        shown += map(_show_ended, ended.values())
    return sorted(shown, key=lambda line: line.id)


def render_runs(shown: list[ShownRun]) -> str:
    """The list as a table, with what is wrong underneath."""
    if not shown:
        return "nothing runs; the ended runs: nexus ps --all\n"
    warnings = [
        f"\n{line.id}: its supervisor is gone, but {_describe_left(line)}; nexus stop {line.id}\n"
        for line in shown
        if line.left_over
    ]
    return render_columns(HEADER, [_make_row(line) for line in shown], RIGHT_COLUMNS) + "".join(warnings)


def _with_left_over(line: ShownRun, record: RunRecord) -> ShownRun:
    """The line of a lost run with what lives of its engine; where no plugin can tell, a note says so."""
    from nexus_orch.session.left_over import EngineFinder  # noqa: PLC0415 - lost runs are rare, the session large

    try:
        left = EngineFinder().open(record)
    except NexusError as error:
        notes = (problem.message for problem in error.problems)
        return replace(line, left_over=True, notes=(*line.notes, *notes))
    return line if left is None else replace(line, left_over=True, orphans=left.processes)


def _show_open(record: RunRecord, now: float) -> ShownRun:
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
    if line.left_over:
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


def _describe_left(line: ShownRun) -> str:
    if not line.orphans:
        return f"its engine may live ({'; '.join(line.notes)})" if line.notes else "its engine lives"
    pids = ", ".join(str(process.pid) for process in line.orphans)
    count = "1 engine process lives" if len(line.orphans) == 1 else f"{len(line.orphans)} engine processes live"
    return f"{count} ({pids}) with {render_bytes(sum(process.rss_bytes for process in line.orphans))} of RAM"
