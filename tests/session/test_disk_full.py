"""A disk that takes no more when a run begins: it is told, and no folder stays that looks like a lost run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.session.conftest import Desk


def _states(desk: Desk) -> list[str]:
    listed = desk.nexus("ps", "--all", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    return [run["state"] for run in json.loads(listed.stdout)]


@pytest.mark.parametrize("kib", [0, 1, 3])
def test_a_run_that_cannot_write_its_record_leaves_no_folder(desk: Desk, kib: int) -> None:
    """The system refuses every file beyond so many KiB: nothing at all is written, or no whole spec.yaml."""
    limited = ["sh", "-c", f'ulimit -f {2 * kib}; exec "$@"', "sh", *desk._argv(("probe.then=stop",))]
    done = desk.call(limited)
    assert done.returncode == 5, done.stderr
    assert "writing failed: File too large" in done.stderr
    assert desk.run_folders == []
    assert _states(desk) == []


_REFUSE = """
import errno, os, sys

def refuse(event, given):
    if event == "open" and {name!r} in os.path.basename(str(given[0])) and given[2] & (os.O_WRONLY | os.O_RDWR):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), given[0])

sys.addaudithook(refuse)
"""
"""For Python's start: this process gets no room for files of that name, and for all others it does."""


@pytest.mark.parametrize(
    ("name", "states"),
    [("spec.yaml", []), ("journal.jsonl", []), ("plan.json", ["stopped"]), ("command.json", ["stopped"])],
)
def test_a_full_disk_leaves_no_lost_run(desk: Desk, tmp_path: Path, name: str, states: list[str]) -> None:
    """Whichever file is the first that finds no room. Where the journal has some, it tells how the run ended. Files
    themselves are tested with /dev/full in tests/record and tests/launch."""
    (tmp_path / "sitecustomize.py").write_text(_REFUSE.format(name=name), encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [desk.environ.get("PYTHONPATH")])])
    done = replace(desk, environ={**desk.environ, "PYTHONPATH": paths}).run("probe.then=stop")
    assert done.returncode == 5, done.stderr
    assert "the disk is full" in done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert _states(desk) == states
