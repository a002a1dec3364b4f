from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError, InterruptedByEnvironment
from nexus_orch.record.history import read_attempts, read_history, rebuild_history, remember_run
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_folder import create_run_folder
from nexus_orch.record.run_record import RunRecord
from nexus_orch.types import ProcessKey
from tests.record.examples import SPEC, START, write_start, write_stopped_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def _alive(process: ProcessKey, host: str) -> bool:
    return True


def _write_run(runs: Path) -> RunRecord:
    return read_run(write_stopped_run(runs).path, _alive)


def test_a_run_is_remembered_with_its_attempts(runs: Path, history: Path) -> None:
    record = _write_run(runs)
    remember_run(history, runs, record)
    (row,) = read_history(history, runs)
    assert (row.id, row.folder, row.state, row.exit_code) == (record.id, str(record.path), "stopped", 130)
    assert (row.model, row.hardware, row.strategy, row.engine_version) == ("qwen32b", "rtx4090x2", "hybrid", "0.32.0")
    assert (row.started, row.ended) == (START, START + 3606)
    assert (row.kv_cache_tokens, row.tokens_per_second) == (23552.0, 4.1)
    assert row.plan["kv_cache_tokens"] == 24000
    assert row.measured["tokens_per_second"] == 4.1
    first, second = read_attempts(history, runs, record.id)
    assert (first.number, first.cause, second.number, second.cause) == (1, "weights_oom", 2, None)
    assert second.settings["memory.cpu_offload_gib"] == 16.0


def test_a_run_that_is_on_has_no_end_and_is_updated(runs: Path, history: Path) -> None:
    folder = create_run_folder(runs, SPEC, START)
    write_start(folder).close()
    record = read_run(folder.path, _alive)
    remember_run(history, runs, record)
    (row,) = read_history(history, runs)
    assert (row.state, row.ended, row.exit_code) == (None, None, None)
    remember_run(history, runs, replace(record, state="failed", exit_code=4, cause="engine_dead"))
    (row,) = read_history(history, runs)
    assert (row.state, row.cause) == ("failed", "engine_dead")
    assert len(read_attempts(history, runs, record.id)) == 2


def test_the_newest_run_comes_first(runs: Path, history: Path) -> None:
    record = _write_run(runs)
    for number in range(5):
        remember_run(history, runs, replace(record, id=f"run-{number}", started=START + number))
    assert [row.id for row in read_history(history, runs, limit=2)] == ["run-4", "run-3"]


def test_a_missing_history_is_made_from_the_folders(runs: Path, history: Path) -> None:
    ids = {_write_run(runs).id, _write_run(runs).id}
    (runs / "notes").mkdir()
    (runs / "20261123-150000-empty").mkdir()
    assert {row.id for row in read_history(history, runs)} == {*ids, "20261123-150000-empty"}
    assert len(read_attempts(history, runs, min(ids))) == 2


def test_without_runs_there_is_an_empty_history(runs: Path, history: Path) -> None:
    assert read_history(history, runs) == ()


@pytest.mark.parametrize("damage", ["no database", "torn page", "empty"])
def test_a_damaged_history_is_put_aside_and_made_again(runs: Path, history: Path, damage: str) -> None:
    record = _write_run(runs)
    remember_run(history, runs, record)
    content = history.read_bytes()
    if damage == "no database":
        history.write_bytes(b"this is no database" * 1000)
    elif damage == "torn page":
        history.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    else:
        history.write_bytes(b"")
    assert [row.id for row in read_history(history, runs)] == [record.id]
    remember_run(history, runs, record)
    assert history.with_name("history.sqlite.damaged").exists() == (damage != "empty")


def test_a_history_can_be_rebuilt_at_any_time(runs: Path, history: Path) -> None:
    record = _write_run(runs)
    remember_run(history, runs, replace(record, model="wrong"))
    remember_run(history, runs, replace(record, id="20200101-000000-deleted"))
    assert rebuild_history(history, runs) == 1
    assert {row.id: row.model for row in read_history(history, runs)} == {
        record.id: "qwen32b",
        "20200101-000000-deleted": "qwen32b",
    }


def test_a_history_of_a_newer_release_is_left_alone(runs: Path, history: Path) -> None:
    remember_run(history, runs, _write_run(runs))
    with closing(sqlite3.connect(history)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="written by a newer nexus_orch"):
        read_history(history, runs)


def test_a_history_that_cannot_be_opened_is_told(runs: Path, history: Path) -> None:
    history.mkdir()
    with pytest.raises(InterruptedByEnvironment, match="unable to open database file"):
        read_history(history, runs)


def _remember_many(arguments: tuple[Path, Path, RunRecord, int]) -> int:
    history, runs, record, worker = arguments
    for number in range(15):
        remember_run(history, runs, replace(record, id=f"20261123-150000-{worker}-{number}"))
        read_history(history, runs, limit=3)
    return worker


@pytest.mark.slow
def test_several_processes_write_at_once(runs: Path, history: Path) -> None:
    record = _write_run(runs)
    with get_context("spawn").Pool(4) as pool:
        assert pool.map(_remember_many, [(history, runs, record, worker) for worker in range(4)]) == [0, 1, 2, 3]
    assert len(read_history(history, runs)) == 61
