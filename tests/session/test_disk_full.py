"""A disk that takes no more when a run begins: it is told, and no folder stays that looks like a lost run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.record.find import find_runs
from tests.session.conftest import Desk

PAGE = 4096


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 pages of its own, where this user may mount one. What needs none is tested above, and with
    /dev/full in tests/record and tests/launch."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = f"size={64 * PAGE}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_a_full_disk_leaves_no_lost_run(desk: Desk, small_disk: Path, left: int) -> None:
    """With so many pages left spec, journal, plan or command is the first that cannot be written. Where the journal has
    room, it tells how the run ended."""
    home = small_disk / "home"
    full = replace(desk, home=home, environ={**desk.environ, "NEXUS_HOME": str(home)})
    home.mkdir()
    (small_disk / "filler").write_bytes(bytes((64 - left) * PAGE))
    done = full.run("probe.then=stop")
    assert done.returncode == 5, done.stderr
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    (small_disk / "filler").unlink()
    assert _states(full) == ["stopped"] * len(find_runs(home / "runs"))
    assert left > 1 or not find_runs(home / "runs")
