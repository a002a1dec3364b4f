"""Fixtures for every test: a home of its own, nothing changed afterwards, nothing left behind."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# No test asserts a time. CI tries the same examples each time, so that a change is blamed for what it broke; at home
# they differ from run to run, which finds more.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")

TEST_MARK = "NEXUS_TEST_MARK"

GRACE_SECONDS = 10.0
"""How long processes that were told to end may take under load, before a test is blamed for leaving them."""


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """A test that changes the environment or the working directory for the next ones fails."""
    before = _read_environment()
    yield
    assert _read_environment() == before


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
