"""Fixtures for every test: a home of its own, nothing changed afterwards, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

# No test asserts a time. CI tries the same examples each time, so that a change is blamed for what it broke; at home
# they differ from run to run, which finds more.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")

# Under nohup this process ignores SIGHUP, and whatever it starts would inherit that: a child's terminal could not be
# closed in a test. A handler is not inherited by the programs that we start, and keeps us as deaf as nohup wants us.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)

TEST_MARK = "NEXUS_TEST_MARK"

TESTS = Path(__file__).parent

WATCHED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE_SECONDS = 10.0
"""How long processes that were told to end may take under load, before a test is blamed for leaving them."""


DRIVES_WHOLE_RUNS = ("bus", "install", "real_engine", "session")
"""Folders whose tests start supervisors, engines or installers: `make quick` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the folders that drive whole runs are slow; single modules say so themselves."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in DRIVES_WHOLE_RUNS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """A test that changes the environment, the working directory or a signal's handler for the next ones fails."""
    before, handlers = _read_environment(), _read_handlers()
    yield
    after = _read_handlers()
    for number, handler in handlers.items():
        signal.signal(number, handler)  # the next test is not to fail for this one
    assert _read_environment() == before
    assert after == handlers


@pytest.fixture(autouse=True)
def isolated_home(unchanged_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of its own for each test, and no project from outside. It does not exist yet."""
    home = tmp_path / "nexus-home"
    monkeypatch.setenv("NEXUS_HOME", str(home))
    for name in ("NEXUS_PROJECT", "NEXUS_FAKE", "NEXUS_ENGINE_MARK"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def no_process_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test fails when a process that it started, directly or not, outlives it. Ask for it before the starter."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(TEST_MARK, mark)
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := _find_marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = []
    for process in left:
        with suppress(psutil.Error):
            told.append(f"{process.pid} {' '.join(process.cmdline())}")
            process.kill()
    assert not told


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _read_environment() -> tuple[dict[str, str], str]:
    # pytest itself changes this variable between the phases of a test
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return variables, str(Path.cwd())


def _read_handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in WATCHED_SIGNALS}


def _find_marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if (
                process.pid != os.getpid()
                and process.environ().get(TEST_MARK) == mark
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found
