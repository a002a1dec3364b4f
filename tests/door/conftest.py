"""A door with a fake engine behind it: a real process, started and told of by the test as a session would."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import pytest

from nexus_orch.door.front_door import Address, FrontDoor
from nexus_orch.door.rules import HouseRules
from nexus_orch.testing import FakeEngine

PATIENCE_SECONDS = 60.0
"""Only a bound for a test that hangs; nothing waits for it."""


def find_free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@dataclass
class Stand:
    """The door, and the engine behind it."""

    log: IO[bytes]
    port: int = field(default_factory=find_free_port)
    engine_port: int = field(default_factory=find_free_port)
    behaviour: FakeEngine = field(default_factory=FakeEngine)
    options: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    slots: int = 64
    engine: subprocess.Popen[bytes] | None = None
    doors: list[FrontDoor] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def door(self) -> FrontDoor:
        return self.doors[-1]

    def open(self, rules: HouseRules | None = None) -> FrontDoor:
        door = FrontDoor(Address("127.0.0.1", self.port), rules or HouseRules())
        door.open()
        self.doors.append(door)
        return door

    def start_engine(self, *, tell: bool = True) -> None:
        """Start it and wait until it answers; `tell` the door then."""
        command = self.behaviour.command(self.engine_port, "fake/model", *self.options)
        environ = {**os.environ, **command.env, **self.environ}
        self.engine = subprocess.Popen(command.argv, env=environ, stdout=self.log, stderr=self.log)
        url = f"http://127.0.0.1:{self.engine_port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/health", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers, "the engine")
        if tell:
            self.door.ready(url, self.slots, 32_768)

    def kill_core(self) -> None:
        """As the kernel does when memory runs out; the API server tells its clients and ends."""
        assert self.engine is not None
        for child in psutil.Process(self.engine.pid).children():
            child.kill()

    def wait_for_end(self) -> None:
        assert self.engine is not None
        self.engine.wait(PATIENCE_SECONDS)

    def restart(self, reason: str = "the engine died", *, convicts: bool = False) -> None:
        """What a session does about a death."""
        self.door.down(reason, is_death=True, convicts=convicts)
        self.wait_for_end()
        self.door.starting()
        self.start_engine()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_SECONDS)

    def complete(self, prompt: str = "Hello", **more: Any) -> httpx.Response:
        with self.client() as client:
            return client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 4, **more})

    def counts(self) -> dict[str, float]:
        """The door's own figures, by name."""
        with self.client() as client:
            text = client.get("/metrics").text
        return {
            line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("nexus_door")
        }

    def close(self) -> None:
        for door in self.doors:
            door.close("the test is over")
        if self.engine is not None and self.engine.poll() is None:
            self.engine.terminate()
            self.engine.wait(PATIENCE_SECONDS)


@pytest.fixture
def stand(no_process_left: None, tmp_path: Path) -> Iterator[Stand]:
    with (tmp_path / "engine.log").open("wb") as log:
        stand = Stand(log)
        try:
            yield stand
        finally:
            stand.close()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of the condition; fails after a long time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")
