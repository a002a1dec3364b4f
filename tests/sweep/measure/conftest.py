"""A fake engine that serves, and a target that points at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus_orch.launch.server.server import Server
from nexus_orch.sweep.measure.types import BenchTarget
from nexus_orch.testing import FakeEngine
from nexus_orch.types import EngineFacts
from tests.launch.engines import Watched

Serve = Callable[..., BenchTarget]


@pytest.fixture
def serve(no_process_left: None, tmp_path: Path, free_port: int) -> Iterator[Serve]:
    """Start a fake engine and give it as a target; `changes` are those of the target."""
    started: list[Watched] = []

    def start(engine: FakeEngine | None = None, *options: str, **changes: object) -> BenchTarget:
        engine = engine or FakeEngine()
        watched = Watched(engine.command(free_port, "fake/model", *options), tmp_path)
        started.append(watched)
        watched.wait_until_ready()
        facts = EngineFacts(version=engine.version, device=engine.device, source="installed")
        known = {
            "server": Server("127.0.0.1", free_port, "fake/model"),
            "engine": facts,
            "launcher": engine.launcher(),
            "tokenizer": "fake/model",
            "log": watched.log_path,
        }
        return BenchTarget(**{**known, **changes})  # type: ignore[arg-type]

    yield start
    for watched in started:
        watched.stop(stop_seconds=0)
        watched.engine.wait(10)
        watched.engine.output.wait(10)
