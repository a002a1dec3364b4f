"""Every test here may start processes; none may leave any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus_orch.types import Command
from tests.launch.engines import Watched


@pytest.fixture
def start(no_process_left: None, tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Start a command; what is still there after the test is stopped."""
    started: list[Watched] = []

    def start_watched(command: Command, **options: object) -> Watched:
        started.append(Watched(command, tmp_path, **options))
        return started[-1]

    yield start_watched
    for watched in started:
        watched.stop(stop_seconds=0)
        watched.engine.wait(10)
        watched.engine.output.wait(10)
