"""The store of measurements: many writers, torn lines, and the switch."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError, InterruptedByEnvironment
from nexus_orch.judge.learned.learning import LaunchMeasurement
from nexus_orch.record.learned import append_measurement, is_learning, learned_path, read_measurements

MEASURED = LaunchMeasurement(
    date="2026-11-23",
    machine="RTX 4090 24115 MiB, linux, driver 580.65",
    engine_version="0.32.0",
    model="qwen7b 0123456789ab",
    conditions={"model.dtype": "bfloat16", "serve.tensor_parallel": 1, "memory.enforce_eager": False},
    weights_bytes=15_343_770_665,
    kv_cache_tokens=1_071_136,
)
LINES_OF_EACH = 40
WRITERS = 2


def _make(writer: int, number: int) -> LaunchMeasurement:
    return replace(MEASURED, conditions={"writer": writer, "number": number, "padding": "x" * 2000})


def _write(path: Path, writer: int) -> None:
    for number in range(LINES_OF_EACH):
        append_measurement(path, _make(writer, number))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "home" / "learned.jsonl"


def test_nothing_was_learned_yet(store: Path) -> None:
    assert read_measurements(store) == ((), ())


def test_what_was_written_is_read(store: Path) -> None:
    other = replace(MEASURED, conditions={}, weights_bytes=None)
    append_measurement(store, MEASURED)
    append_measurement(store, other)
    assert read_measurements(store) == ((MEASURED, other), ())


def test_the_same_measurement_is_kept_once(store: Path) -> None:
    append_measurement(store, MEASURED)
    append_measurement(store, replace(MEASURED, date="2026-11-24"))
    assert read_measurements(store)[0] == (MEASURED,)
    changed = replace(MEASURED, date="2026-11-25", kv_cache_tokens=1_071_120)
    append_measurement(store, changed)
    assert read_measurements(store)[0] == (MEASURED, changed)


def test_a_torn_line_costs_only_itself(store: Path) -> None:
    append_measurement(store, MEASURED)
    other = replace(MEASURED, conditions={"model.dtype": "float16"})
    append_measurement(store, other)
    whole = store.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[1]) - 1, 25):
        store.write_bytes(whole[: -1 - cut])
        append_measurement(store, other)
        measurements, (note,) = read_measurements(store)
        assert measurements == (MEASURED, other)
        assert "1 damaged lines were left out, the first is line 2" in note


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1, 2]", b'{"date": "2026-11-23"}', b'{"date": 5}', b"null", b"{"])
def test_a_foreign_line_is_noted(store: Path, line: bytes) -> None:
    append_measurement(store, MEASURED)
    store.write_bytes(line + b"\n" + store.read_bytes())
    measurements, notes = read_measurements(store)
    assert measurements == (MEASURED,)
    assert len(notes) == 1


@pytest.mark.slow
def test_two_processes_write_at_once(store: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(store, writer)) for writer in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    measurements, notes = read_measurements(store)
    assert notes == ()
    wanted = [_make(writer, number) for writer in range(WRITERS) for number in range(LINES_OF_EACH)]
    assert sorted(map(repr, measurements)) == sorted(map(repr, wanted))


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(InterruptedByEnvironment, match=r"learned\.jsonl"):
        append_measurement(tmp_path / "home" / "learned.jsonl", MEASURED)


def test_a_store_that_cannot_be_read_is_noted(store: Path) -> None:
    store.mkdir(parents=True)
    measurements, (note,) = read_measurements(store)
    assert measurements == ()
    assert str(store) in note


def test_the_switch(monkeypatch: pytest.MonkeyPatch, isolated_home: Path) -> None:
    assert is_learning()
    assert learned_path() == isolated_home / "learned.jsonl"
    monkeypatch.setenv("NEXUS_LEARN", "0")
    assert not is_learning()
    monkeypatch.setenv("NEXUS_LEARN", "no")
    with pytest.raises(ConfigError, match="NEXUS_LEARN = no"):
        is_learning()
