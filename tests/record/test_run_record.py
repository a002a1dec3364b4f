from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from nexus_orch.files import make_line
from nexus_orch.record.codec import encode_tagged
from nexus_orch.record.events import AttemptEnded, Finished, Judged, Launched, RunEvent, Stopping
from nexus_orch.record.journal import RunJournal
from nexus_orch.record.read_run import make_record, read_run
from nexus_orch.record.run_folder import create_run_folder
from nexus_orch.record.run_record import RunRecord
from nexus_orch.types import GIB, Degraded, Failed, Metric, ProcessKey, Ready, Stage, Starting, Stopped
from tests.record.examples import ENGINE, SPEC, START, SUPERVISOR, WORKER, make_created, write_start, write_stopped_run

FAILED = Failed("weights_oom", ("out of memory",), "offload more")


def _alive(process: ProcessKey, host: str) -> bool:
    return True


def _gone(process: ProcessKey, host: str) -> bool:
    return False


def _record(*events: RunEvent, supervisor_lives: bool = True) -> RunRecord:
    journal = RunJournal((make_created(), *events))
    return make_record(Path("runs/20261123-140000-x"), journal, None, _alive if supervisor_lives else _gone)


def _judged(verdict: Starting | Ready | Degraded | Stopped | Failed) -> Judged:
    return Judged(START + 5, 1, verdict)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "starting"),
        ((_judged(Starting(Stage.LOADING)),), "starting"),
        ((_judged(Ready()),), "ready"),
        ((_judged(Ready()), _judged(Degraded("slow"))), "degraded"),
        ((_judged(Degraded("slow")), _judged(Ready())), "ready"),
        ((_judged(Ready()), _judged(FAILED)), "starting"),
        ((_judged(Ready()), _judged(Stopped("asked"))), "ready"),
        ((_judged(Ready()), Finished(START + 9, 0)), "stopped"),
        ((_judged(Ready()), Finished(START + 9, 130)), "stopped"),
        ((_judged(Ready()), Finished(START + 9, 5)), "stopped"),
        ((_judged(Ready()), Finished(START + 9, 5, "engine_dead")), "failed"),
        ((_judged(FAILED), Finished(START + 9, 4, "weights_oom")), "failed"),
        ((Finished(START + 9, 3),), "failed"),
    ],
)
def test_states_of_a_supervised_run(events: tuple[RunEvent, ...], state: str) -> None:
    assert _record(*events).state == state


def test_a_run_whose_supervisor_is_gone_is_lost_unless_it_told_its_end() -> None:
    assert _record(_judged(Ready()), supervisor_lives=False).state == "lost"
    assert _record(_judged(Ready()), Finished(START + 9, 0), supervisor_lives=False).state == "stopped"


def test_the_supervisor_is_asked_for_by_pid_and_start_time() -> None:
    asked: list[tuple[ProcessKey, str]] = []

    def is_alive(process: ProcessKey, host: str) -> bool:
        asked.append((process, host))
        return True

    make_record(Path("x"), RunJournal((make_created(),)), None, is_alive)
    assert asked == [(SUPERVISOR, "")]


def test_an_empty_folder_is_a_lost_run(tmp_path: Path) -> None:
    record = read_run(tmp_path, _alive)
    assert record.state == "lost"
    assert record.notes == ("there is no journal",)


def test_a_wish_to_stop_shows_until_the_end() -> None:
    asked = Stopping(START + 6, "nexus stop")
    assert _record(_judged(Ready()), asked).stopping
    ended = _record(_judged(Ready()), asked, Finished(START + 9, 0))
    assert not ended.stopping
    assert ended.reason == "nexus stop"


def test_of_two_ends_the_first_counts() -> None:
    record = _record(Finished(START + 9, 5, "engine_dead"), Finished(START + 10, 0))
    assert (record.exit_code, record.cause, record.ended) == (5, "engine_dead", START + 9)


def test_a_whole_run_is_told(tmp_path: Path) -> None:
    record = read_run(write_stopped_run(tmp_path).path, _gone)
    assert (record.state, record.model, record.strategy, record.engine_version) == (
        "stopped",
        "qwen32b",
        "hybrid",
        "0.32.0",
    )
    assert (record.url, record.port, record.provider, record.identity) == (
        "http://127.0.0.1:8000",
        8000,
        "local",
        {"mark": "of-the-engine"},
    )
    assert record.family == (ENGINE, WORKER)
    assert (record.started, record.ended, record.exit_code, record.reason) == (START, START + 3606, 130, "Ctrl-C")
    assert record.measured == {"tokens_per_second": 4.1, "weights_bytes": 16.2 * GIB, "kv_cache_tokens": 23552.0}
    assert record.latest.peaks.gpu_memory_bytes == {"0": 22 * GIB, "1": int(20.5 * GIB)}
    assert record.latest.peaks.engine_rss_bytes == 19 * GIB


def test_attempts_are_told_with_their_stages_causes_and_lessons(tmp_path: Path) -> None:
    first, second = read_run(write_stopped_run(tmp_path).path, _gone).attempts
    assert (first.number, first.started, first.ended) == (1, START + 2, START + 18)
    assert isinstance(first.verdict, Failed) and first.verdict.cause == "weights_oom"
    assert first.lessons[0].key == "measured.weights_bytes"
    assert first.stages == ((Stage.STARTING, START + 2), (Stage.LOADING, START + 8))
    assert second.plan["choices"][1]["value"] == 16.0
    assert [stage for stage, _ in second.stages] == ["starting", "loading", "profiling", "warming", "ready"]
    assert second.verdict == Stopped("Ctrl-C")


def test_a_new_attempt_forgets_the_processes_of_the_old_one() -> None:
    again = ProcessKey(77, START + 50)
    record = _record(
        Launched(START + 1, 1, ENGINE, 8000, "http://127.0.0.1:8000"),
        AttemptEnded(START + 40, 1, FAILED),
        Launched(START + 50, 2, again, 8001, "http://127.0.0.1:8001", "broker", {"id": "x"}),
    )
    assert (record.family, record.provider, record.identity) == ((again,), "broker", {"id": "x"})
    assert record.stage == Stage.STARTING
    assert record.url == "http://127.0.0.1:8001"


def test_progress_inside_a_stage() -> None:
    record = _record(_judged(Starting(Stage.LOADING, 0.25)))
    assert (record.stage, record.progress) == (Stage.LOADING, 0.25)


def test_without_the_newest_samples_the_journals_stand_in(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, SPEC, START)
    write_start(folder).close()
    whole = read_run(folder.path, _alive).latest
    folder.latest.write_text("{")
    assert read_run(folder.path, _alive).latest == whole
    assert whole.gpus[0].memory_used_bytes == 21 * GIB


def test_a_huge_journal_is_folded_without_being_held(tmp_path: Path) -> None:
    """Memory does not grow with the samples of a journal, with latest.json or without."""
    path = tmp_path / "20261123-140000-x"
    path.mkdir()
    line = make_line(encode_tagged(Metric(2.0, 1, {"running": 1.0})))
    with (path / "journal.jsonl").open("wb") as file:
        file.write(make_line(encode_tagged(make_created())))
        for _ in range(200):
            file.write(line * 200)
    size = (path / "journal.jsonl").stat().st_size
    tracemalloc.start()
    record = read_run(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert record.latest is not None and record.latest.metric is not None
    assert peak < size / 4
