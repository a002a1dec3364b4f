"""The sweeper itself, with real processes: searched, ended, killed at any moment, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nexus_orch.sweep.run.journal import SweepJournal
from nexus_orch.sweep.types import INTERRUPTED, Begun, LaunchEnded, Soaked, Speed
from nexus_orch.testing import FakeEngine, write_fake_plugin
from tests.session.conftest import Desk, wait_for

SHORT = (
    "workload.concurrency=4",
    "workload.input_tokens=32",
    "workload.output_tokens=8",
    "sweep.launches=2",
    "sweep.confirmations=0",
    "sweep.soak_minutes=0.01",
    "sweep.soak_requests=20",
    "sweep.client=nexus",
)
GRID = ("model.max_model_len=512,1024", "serve.max_num_seqs=4,8")
PATIENCE_SECONDS = 240.0


def sweep(desk: Desk, *overrides: str) -> subprocess.CompletedProcess[str]:
    return desk.run("-m", *GRID, *SHORT, *overrides, patience_seconds=PATIENCE_SECONDS)


def journal_of(desk: Desk) -> SweepJournal:
    (folder,) = (desk.home / "sweeps").iterdir()
    return SweepJournal(folder)


def test_from_the_first_word_to_the_pick(desk: Desk) -> None:
    done = sweep(desk)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "4 points; 0 are decided without a launch, 4 are open" in done.stdout
    assert "wanted: output tokens/s of 4 requests at once" in done.stdout
    assert "launch 2, point" in done.stdout
    assert "pick: point" in done.stdout
    outcomes = journal_of(desk).outcomes()
    assert sum(isinstance(outcome, LaunchEnded) for outcome in outcomes) == 2
    assert any(isinstance(outcome, Soaked) for outcome in outcomes)
    summary = json.loads((journal_of(desk).folder / "summary.json").read_text(encoding="utf-8"))
    assert [point["outcome"] for point in summary["points"]] == ["served", "served"]
    assert all(point["measured"]["tokens_per_second"] > 0 for point in summary["points"])


def test_a_start_that_fails_is_told_and_the_sweep_goes_on(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(max_context=600))
    done = sweep(desk, "sweep.launches=4")
    assert done.returncode == 0, done.stderr + done.stdout
    causes = Counter(outcome.cause for outcome in journal_of(desk).outcomes() if isinstance(outcome, LaunchEnded))
    assert causes["context_too_long"] >= 1
    assert causes[None] >= 1
    assert "context_too_long" in done.stdout


def test_a_point_that_hangs_is_given_up(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(stall_at="loading"))
    done = sweep(desk, "limits.startup_stall_seconds=1", "sweep.launches=1")
    assert done.returncode == 4, done.stderr + done.stdout
    assert "no pick: no point became ready" in done.stdout
    assert {outcome.cause for outcome in journal_of(desk).outcomes() if isinstance(outcome, LaunchEnded)} == {
        "startup_stalled"
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_goes_on_with_the_same_command(desk: Desk, how: signal.Signals) -> None:
    write_fake_plugin(desk.folder, FakeEngine(tokens_per_second=100))
    process = desk.start("-m", *GRID, *SHORT)
    wait_for(lambda: count(desk, Speed) >= 1, "a first measurement", PATIENCE_SECONDS)
    process.send_signal(how)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == (130 if how is signal.SIGINT else 5), err
    assert "the same command goes on with this sweep" in out
    check_resumed(desk)


@pytest.mark.parametrize("moment", [Begun, Speed])
def test_killed_at_any_moment_it_goes_on_and_leaves_nothing(desk: Desk, moment: type) -> None:
    write_fake_plugin(desk.folder, FakeEngine(tokens_per_second=100))
    process = desk.start("-m", *GRID, *SHORT)
    wait_for(lambda: count(desk, moment) >= 1, moment.__name__, PATIENCE_SECONDS)
    process.kill()
    process.communicate()
    check_resumed(desk)


def check_resumed(desk: Desk) -> None:
    """The same command goes on in the same folder: what was measured is still there, and nothing runs twice."""
    write_fake_plugin(desk.folder, FakeEngine())
    before = [entry for entry in journal_of(desk).entries() if isinstance(entry.outcome, Speed | Soaked)]
    again = sweep(desk)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "going on with the sweep in" in again.stdout
    entries = journal_of(desk).entries()
    assert [entry for entry in entries if isinstance(entry.outcome, Speed | Soaked)][: len(before)] == before
    starts = [entry.outcome for entry in entries if isinstance(entry.outcome, LaunchEnded)]
    assert len(starts) == sum(isinstance(entry.outcome, Begun) for entry in entries)
    assert all(start.cause in (None, INTERRUPTED) for start in starts)


def count(desk: Desk, kind: type) -> int:
    folder = desk.home / "sweeps"
    if not folder.is_dir() or not any(SweepJournal(path).is_there for path in folder.iterdir()):
        return 0
    return sum(isinstance(outcome, kind) for outcome in journal_of(desk).outcomes())


def test_two_sweeps_never_have_one_card_at_a_time(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(tokens_per_second=40))
    first = desk.start("-m", "serve.max_num_seqs=4,8", *SHORT, "sweep.launches=1")
    wait_for(lambda: count(desk, LaunchEnded) >= 1, "the first start", PATIENCE_SECONDS)
    second = desk.start("-m", "serve.max_num_seqs=16,32", *SHORT, "sweep.launches=1")
    most = 0
    while first.poll() is None or second.poll() is None:
        most = max(most, len(engines_of(desk)))
        time.sleep(0.05)
    outs = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outs
    assert most == 1
    assert "waiting: another sweep has this machine" in outs[1]


def engines_of(desk: Desk) -> list[int]:
    """The main processes of engines of this desk that live."""
    mark = os.environ["NEXUS_TEST_MARK"]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[1:4] == ["-m", "nexus_orch.testing", "serve"]:
            try:
                if process.environ().get("NEXUS_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
    return found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("serve.max_num_seqs=0,-1",), "serve.max_num_seqs"),
        (("model.max_model_len=100000000,99999999",), "no point of the grid can run"),
        (("serve.max_num_seqs=interval(1,8)",), "not a list of values"),
        (("serve.max_num_seqs=4,8", "sweep.resume=nowhere"), "no sweep was kept there"),
        (("serve.max_num_seqs=4,8", "sweep.objective=latency"), "sweep.objective"),
    ],
)
def test_a_grid_that_cannot_be_searched_is_a_mistake(desk: Desk, words: tuple[str, ...], told: str) -> None:
    done = desk.run("-m", *words, *SHORT)
    assert done.returncode == 2, done.stderr + done.stdout
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert desk.run_folders == []


def test_results_of_another_version_are_refused_with_one_line(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "sweep.json").write_text('{"schema": 0, "task": {}}', encoding="utf-8")
    done = sweep(desk, f"sweep.resume={folder}")
    assert done.returncode == 2
    assert "this sweep has schema 0, and this nexus_orch reads schema 1" in done.stderr


REFUSE_LATER = """
import errno, os, sys

opened = []

def refuse(event, given):
    if event == "open" and os.path.basename(str(given[0])) == "outcomes.jsonl" and given[2] & (os.O_WRONLY | os.O_RDWR):
        opened.append(given[0])
        if len(opened) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), given[0])

sys.addaudithook(refuse)
"""
"""For Python's start: from the fourth outcome on the disk has no room for one."""


def test_a_full_disk_ends_it_and_with_room_it_goes_on(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE_LATER, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [desk.environ.get("PYTHONPATH")])])
    full = replace(desk, environ={**desk.environ, "PYTHONPATH": paths})
    done = sweep(full)
    assert done.returncode == 5, done.stderr + done.stdout
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    check_resumed(desk)
