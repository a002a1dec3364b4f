from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexus_orch.install.work.lock import hold_lock

HOLDER = """
import pathlib, sys, time
from nexus_orch.install.work.lock import hold_lock
with hold_lock(pathlib.Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


class WaitedError(Exception):
    pass


def _refuse(holder: str) -> None:
    raise WaitedError(holder)


@pytest.fixture
def holder(no_process_left: None, tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock `tmp_path/deep/lock`."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "deep" / "lock")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
    return process


def test_one_after_the_other(tmp_path: Path) -> None:
    for _ in range(2):
        with hold_lock(tmp_path / "lock", _refuse):
            assert (tmp_path / "lock").is_file()


def test_a_second_one_is_told_who_holds_it_and_may_refuse_to_wait(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(WaitedError, match=f"process {holder.pid}"), hold_lock(tmp_path / "deep" / "lock", _refuse):
        pass
    holder.kill()
    holder.wait()


def test_a_killed_holder_leaves_no_lock(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    told: list[str] = []

    def kill_the_holder(who: str) -> None:
        told.append(who)
        holder.kill()

    with hold_lock(tmp_path / "deep" / "lock", kill_the_holder):
        assert told == [f"process {holder.pid}"]
    holder.wait()
