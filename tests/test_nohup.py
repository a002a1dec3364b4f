"""The suite itself under nohup: tests that close a terminal pass although their parent ignores SIGHUP."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_the_suite_closes_terminals_under_nohup() -> None:
    tests = "tests/launch/processes/test_signals.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests],
        cwd=ROOT,
        preexec_fn=_ignore_hangup,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
