"""The history of all runs in one SQLite file: an index over the run folders, made again from them when it is gone.

Every function opens the file, does one thing in one transaction and closes it, so that any number of nexus processes
can use it at once. The folders are the truth: a lost history costs nothing but the runs whose folders were deleted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from nexus_orch import paths
from nexus_orch.errors import ConfigError, InterruptedByEnvironment, Problem
from nexus_orch.record.find import find_runs
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import AttemptRecord, RunRecord
from nexus_orch.types import Failed

Result = TypeVar("Result")

BUSY_SECONDS = 30.0

_MIGRATIONS = (
    (
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY, folder TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL, hardware TEXT NOT NULL,
            strategy TEXT NOT NULL, engine_version TEXT NOT NULL, nexus_version TEXT NOT NULL, host TEXT NOT NULL,
            started REAL, ended REAL, state TEXT, exit_code INTEGER, cause TEXT, reason TEXT NOT NULL, url TEXT,
            kv_cache_tokens REAL, tokens_per_second REAL, plan TEXT NOT NULL, measured TEXT NOT NULL
        )
        """,
        "CREATE INDEX runs_by_start ON runs (started)",
        """
        CREATE TABLE attempts (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, number INTEGER NOT NULL, started REAL,
            ended REAL, cause TEXT, returncode INTEGER, settings TEXT NOT NULL, PRIMARY KEY (run_id, number)
        )
        """,
    ),
)
"""The statements of each schema version; the file's `user_version` says how many versions it has had."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PLAN_SUMMARY = ("fits", "loader", "kv_cache_tokens", "max_model_len", "max_concurrency", "per_gpu", "prediction")


@dataclass(frozen=True)
class HistoryRow:
    """One run of the history. `state` is None while the run is on, or when nobody wrote its end down."""

    id: str
    folder: str
    name: str
    model: str
    hardware: str
    strategy: str
    engine_version: str
    nexus_version: str
    host: str
    started: float | None
    ended: float | None
    state: str | None
    exit_code: int | None
    cause: str | None
    reason: str
    url: str | None
    kv_cache_tokens: float | None
    tokens_per_second: float | None
    plan: Mapping[str, Any] = field(default_factory=dict)
    """The last plan in short."""
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AttemptRow:
    """One attempt of a run; `settings` are the plan's settings by key."""

    run_id: str
    number: int
    started: float | None
    ended: float | None
    cause: str | None
    returncode: int | None
    settings: Mapping[str, Any]


def history_path() -> Path:
    """The history of this user: `<home>/history.sqlite`."""
    return paths.home_dir() / "history.sqlite"


def remember_run(path: Path, runs_dir: Path, record: RunRecord) -> None:
    """Write or update a run and its attempts. Raises NexusError when the history cannot be written."""
    _with_history(path, runs_dir, lambda connection: _put(connection, [record]))


def read_history(path: Path, runs_dir: Path, limit: int = -1) -> tuple[HistoryRow, ...]:
    """The runs, the newest first, at most `limit` of them. Raises NexusError when the history cannot be read."""
    query = f"SELECT {', '.join(_names(HistoryRow))} FROM runs ORDER BY started DESC, id DESC LIMIT ?"
    rows = _with_history(path, runs_dir, lambda connection: connection.execute(query, (limit,)).fetchall())
    return tuple(HistoryRow(**_parse_json(row, "plan", "measured")) for row in rows)


def read_attempts(path: Path, runs_dir: Path, run_id: str) -> tuple[AttemptRow, ...]:
    """The attempts of a run in their order. Raises NexusError when the history cannot be read."""
    query = f"SELECT {', '.join(_names(AttemptRow))} FROM attempts WHERE run_id = ? ORDER BY number"
    rows = _with_history(path, runs_dir, lambda connection: connection.execute(query, (run_id,)).fetchall())
    return tuple(AttemptRow(**_parse_json(row, "settings")) for row in rows)


def rebuild_history(path: Path, runs_dir: Path) -> int:
    """Read all run folders into the history again; how many there were. Rows without a folder stay."""
    records = _read_folders(runs_dir)
    _with_history(path, runs_dir, lambda connection: _put(connection, records))
    return len(records)


def _with_history(path: Path, runs_dir: Path, action: Callable[[sqlite3.Connection], Result]) -> Result:
    """Do something with the history; a damaged file is put aside once and made again."""
    try:
        try:
            return _open_and(path, runs_dir, action)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _put_aside(path)
            return _open_and(path, runs_dir, action)
    except (sqlite3.Error, OSError) as error:
        problem = Problem(
            f"the history cannot be used: {error}",
            key=str(path),
            remedy="it may be deleted, for it is made again from the run folders; or set NEXUS_HOME to another folder",
        )
        raise InterruptedByEnvironment(problem) from None


def _open_and(path: Path, runs_dir: Path, action: Callable[[sqlite3.Connection], Result]) -> Result:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, path, runs_dir)
        return action(connection)


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction; it waits for those of other processes."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, path: Path, runs_dir: Path) -> None:
    """Bring the file to the newest schema; one that is new is filled from the run folders."""
    if _version(connection) == len(_MIGRATIONS):
        return
    with suppress(sqlite3.OperationalError):  # another process switches just now, or the file system cannot do it
        connection.execute("PRAGMA journal_mode = WAL")
    with _writing(connection):
        version = _version(connection)
        if version > len(_MIGRATIONS):
            remedy = "use that nexus_orch, or delete the file: it is made again from the run folders"
            raise ConfigError(Problem("the history was written by a newer nexus_orch", key=str(path), remedy=remedy))
        for statement in (statement for script in _MIGRATIONS[version:] for statement in script):
            connection.execute(statement)
        if version == 0:
            _put_all(connection, _read_folders(runs_dir))
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _read_folders(runs_dir: Path) -> list[RunRecord]:
    """Every run that can be read. Whether one without an end still runs does not matter: the history does not say."""
    records = []
    for folder in find_runs(runs_dir):
        with suppress(OSError):
            records.append(read_run(folder))
    return records


def _put_all(connection: sqlite3.Connection, records: Iterable[RunRecord]) -> None:
    for record in records:
        _insert(connection, "runs", make_history_row(record))
        connection.execute("DELETE FROM attempts WHERE run_id = ?", (record.id,))
        for attempt in record.attempts:
            _insert(connection, "attempts", make_attempt_row(record.id, attempt))


def _put(connection: sqlite3.Connection, records: Iterable[RunRecord]) -> None:
    with _writing(connection):
        _put_all(connection, records)


def make_history_row(record: RunRecord) -> HistoryRow:
    """A run in one row."""
    same = set(_names(HistoryRow)) & set(_names(RunRecord))
    plan = record.attempts[-1].plan if record.attempts else {}
    values = {name: getattr(record, name) for name in same} | {
        "folder": str(record.path),
        "state": None if record.exit_code is None else record.state,
        "kv_cache_tokens": record.measured.get("kv_cache_tokens"),
        "tokens_per_second": record.measured.get("tokens_per_second"),
        "plan": {name: plan[name] for name in _PLAN_SUMMARY if name in plan},
    }
    return HistoryRow(**values)


def make_attempt_row(run_id: str, attempt: AttemptRecord) -> AttemptRow:
    """An attempt in one row."""
    return AttemptRow(
        run_id=run_id,
        number=attempt.number,
        started=attempt.started,
        ended=attempt.ended,
        cause=attempt.verdict.cause if isinstance(attempt.verdict, Failed) else None,
        returncode=attempt.returncode,
        settings=attempt.settings,
    )


def _insert(connection: sqlite3.Connection, table: str, row: HistoryRow | AttemptRow) -> None:
    """Insert, or replace the columns of the row that has the same key."""
    names = _names(type(row))
    key = "id" if table == "runs" else "run_id, number"
    updates = ", ".join(f"{name} = excluded.{name}" for name in names)
    values = [json.dumps(value) if isinstance(value, Mapping) else value for value in (getattr(row, n) for n in names)]
    connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({key}) DO UPDATE SET {updates}",
        values,
    )


def _parse_json(row: sqlite3.Row, *names: str) -> dict[str, Any]:
    return dict(row) | {name: json.loads(row[name]) for name in names}


def _names(record_type: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record_type))


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _put_aside(path: Path) -> None:
    """Keep the damaged file for who wants to look at it. Its write-ahead log belongs to it and must not be replayed."""
    path.replace(path.with_name(path.name + ".damaged"))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
