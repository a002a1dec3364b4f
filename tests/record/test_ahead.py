"""The work before the launch in the record: its events, and its stages beside those of the engine."""

from __future__ import annotations

from pathlib import Path

from nexus_orch.record.events import Judged, Launched, Preloaded, Reserved
from nexus_orch.record.journal import RunJournal, parse_journal
from nexus_orch.record.read_run import make_record
from nexus_orch.types import GIB, ProcessKey, Stage, Starting
from tests.record.examples import ENGINE, START, make_created, make_line

RESERVED = Reserved(START + 1, 1, 20 * GIB, 20 * GIB, 9.5)
PRELOADED = Preloaded(START + 2, 1, 16 * GIB, 4 * GIB, 12 * GIB, 8.0, 4, ("model-1.safetensors",))


def _lives(process: ProcessKey, host: str) -> bool:
    return True


def test_its_events_come_back_from_the_journal() -> None:
    journal = parse_journal((make_line(RESERVED), make_line(PRELOADED)))
    assert journal.entries == (RESERVED, PRELOADED)


def test_a_run_that_preloads_says_so() -> None:
    reading = Judged(START + 2, 1, Starting(Stage.PRELOADING, 0.4, "some"))
    record = make_record(Path("runs/x"), RunJournal((make_created(), reading)), None, _lives)
    assert (record.state, record.stage, record.progress) == ("starting", Stage.PRELOADING, 0.4)
    assert record.attempts[0].started is None


def test_the_launch_adds_its_stage_to_those_before_it() -> None:
    reading = Judged(START + 2, 1, Starting(Stage.PRELOADING))
    launched = Launched(START + 10, 1, ENGINE, 8000, "http://127.0.0.1:8000")
    record = make_record(Path("runs/x"), RunJournal((make_created(), reading, launched)), None, _lives)
    assert record.attempts[0].stages == ((Stage.PRELOADING, START + 2), (Stage.STARTING, START + 10))
