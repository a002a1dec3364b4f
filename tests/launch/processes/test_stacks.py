"""What is written down of processes that stand still: real ones, one of them stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nexus_orch.launch.processes.family import key_of
from nexus_orch.launch.processes.stacks import write_stacks
from nexus_orch.types import ProcessKey

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


@pytest.fixture
def sleeper() -> Iterator[ProcessKey]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield key_of(psutil.Process(child.pid))
    child.kill()
    child.wait()


def test_a_stopped_process_is_told_and_one_that_is_gone_is_left_out(sleeper: ProcessKey, tmp_path: Path) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_STOPPED:
        pass
    gone = ProcessKey(sleeper.pid, 1.0)
    told = write_stacks([gone, sleeper], tmp_path / "stacks.txt", sys.executable)
    assert f"({sleeper.pid}) is stopped" in told and "; " not in told
    assert told in (tmp_path / "stacks.txt").read_text(encoding="utf-8")


def test_the_stacks_come_from_the_engines_own_py_spy(sleeper: ProcessKey, tmp_path: Path) -> None:
    spy = tmp_path / "py-spy"
    spy.write_text('#!/bin/sh\necho "Thread of $3: wait_for_ever (core.py:7)"\n', encoding="utf-8")
    spy.chmod(0o755)
    write_stacks([sleeper], tmp_path / "stacks.txt", str(tmp_path / "python"))
    assert f"Thread of {sleeper.pid}: wait_for_ever" in (tmp_path / "stacks.txt").read_text(encoding="utf-8")
