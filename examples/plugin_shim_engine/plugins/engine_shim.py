"""An example: an engine whose processes are no children of nexus_orch. A shim of its own keeps them (`_shim.py`).

`engine.kind=shim engine.python=PATH` starts the vLLM of that interpreter through the shim, as `docker run` starts one
through a daemon: the command that a plan shows returns at once, and the engine is asked for over a socket.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexus_orch import hookimpl
from nexus_orch.contracts import (
    EngineOrder,
    EngineProvider,
    EngineRecord,
    EngineStart,
    Hurry,
    LeftEngine,
    LeftProcess,
    RunningEngine,
    StopReport,
)
from nexus_orch.errors import LaunchError, Problem
from nexus_orch.facts.engine.installed import read_engine
from nexus_orch.launch.secrets import read_secrets
from nexus_orch.types import Command, EngineFacts, Exited, Facts, ProcessKey, RunSpec, Started

SHIM = Path(__file__).with_name("_shim.py")
FOLDER, NICENESS = "shim_folder", "shim_niceness"
RUNGS = ("SIGINT", "SIGTERM", "SIGKILL")
POLL_SECONDS = 0.05
LOOK_SECONDS = 1.0
KILL_SECONDS = 10.0
DRAIN_SECONDS = 2.0
LOST = -9
"""The exit code of an engine whose shim was killed: nobody knows its own."""


class ShimProvider(EngineProvider):
    """vLLM on this machine, kept by a shim."""

    kind = "shim"
    settings: Mapping[str, Mapping[str, Any]] = {
        FOLDER: {"type": "string", "description": "Folder for the shims' sockets; a short path.", "maxLength": 60},
        NICENESS: {
            "type": "integer",
            "description": "How far the engine gives way to other programs.",
            "minimum": 0,
            "maximum": 19,
        },
    }

    def find(self, spec: RunSpec, *, cpu: bool) -> EngineFacts | None:
        return None if spec.engine.python is None else read_engine(spec.engine.python)

    def why_not_ready(self, spec: RunSpec, facts: Facts) -> Problem | None:
        if sys.platform != "linux":
            return Problem("shims need Linux", "engine.kind", self.kind, remedy="engine.kind=local")
        if facts.engine.python is None:
            remedy = "engine.python=PATH of an environment with vLLM"
            return Problem("no engine is named", "engine.python", remedy=remedy)
        return None

    def command(self, order: EngineOrder) -> Command:
        spec, engine, rendering = order.plan.spec, order.facts.engine, order.rendering
        secrets = read_secrets(rendering)
        inner = Command(
            (str(engine.python), "-m", "vllm.entrypoints.cli.main", *rendering.argv),
            {"PYTHONUNBUFFERED": "1", **rendering.env, **secrets, **spec.engine.env},
            secrets=rendering.secrets | secrets.keys(),
        )
        return run_by_shim(inner, spec.plugin.get(FOLDER), spec.plugin.get(NICENESS, 0))

    def start(self, start: EngineStart) -> RunningEngine:
        environ = {**os.environ, **start.command.env}
        done = subprocess.run(start.command.argv, env=environ, stdout=subprocess.PIPE, check=False)
        told = json.loads(done.stdout or b'{"error": "the shim has said nothing"}')
        if "error" in told:
            raise LaunchError(Problem(told["error"], remedy="run the command by hand to see what is wrong with it"))
        return ShimEngine(told, start)

    def reopen(self, record: EngineRecord) -> LeftEngine | None:
        left = LeftShim(str(record.identity.get("socket")))
        return left if left.list_processes() else None


def run_by_shim(inner: Command, folder: str | None = None, niceness: int = 0) -> Command:
    """The command that starts another one through a shim, whose socket lies in a new folder."""
    own = Path(folder or tempfile.gettempdir()) / f"nexus-shim-{uuid.uuid4().hex[:12]}"
    shim = (sys.executable, str(SHIM), "run", str(own), "--nice", str(niceness), "--")
    return replace(inner, argv=(*shim, *inner.argv))


class LeftShim:
    """An engine by the socket of its shim (`LeftEngine`). A shim that does not answer has nothing to keep any more."""

    def __init__(self, address: str) -> None:
        self._address = address

    def list_processes(self) -> Sequence[LeftProcess]:
        return [LeftProcess(each["pid"], each["name"], each["rss_bytes"]) for each in self._list()]

    def stop(
        self,
        *,
        stop_seconds: float,
        force: bool = False,
        hurry: Hurry | None = None,
        on_rung: Callable[[str], None] | None = None,
    ) -> StopReport:
        started, hurry = time.monotonic(), hurry or threading.Event()
        left, killed, rung = self._list(), [], None
        for rung in RUNGS[-1 if force else 0 :] if left else ():
            if on_rung is not None:
                on_rung(rung)
            if rung == "SIGKILL":
                killed = left
            seconds = max(stop_seconds, KILL_SECONDS) if rung == "SIGKILL" else stop_seconds
            left = self._climb(rung, time.monotonic() + seconds, hurry)
            if not left:
                break
        remedy = "end them as the user who owns them"
        problem = Problem(f"the shim keeps {len(left)} processes", remedy=remedy, cause="orphan_holds_memory")
        took = time.monotonic() - started
        return StopReport(rung, took, _keys(killed), _keys(left), (problem,) if left else ())

    def _climb(self, rung: str, deadline: float, hurry: Hurry) -> list[dict[str, Any]]:
        """Signal all, and give what is left when the time is over or somebody is in a hurry."""
        self._ask({"do": "signal", "signal": rung})
        while left := self._list():
            if hurry.wait(POLL_SECONDS):
                hurry.clear()
                return left
            if time.monotonic() >= deadline:
                return left
        return []

    def _list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask({"do": "list"}).get("processes", [])
        return found

    def _connect(self, asked: dict[str, Any]) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._address)
            connection.sendall(json.dumps(asked).encode() + b"\n")
        except OSError:
            connection.close()
            raise
        return connection

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The shim's answer; nothing where it has ended."""
        try:
            with closing(self._connect(asked)) as connection, connection.makefile("rb") as answer:
                told: dict[str, Any] = json.loads(answer.read() or b"{}")
                return told
        except OSError:
            return {}


class ShimEngine(LeftShim):
    """One that this process has started (`RunningEngine`)."""

    def __init__(self, identity: Mapping[str, Any], start: EngineStart) -> None:
        super().__init__(identity["socket"])
        self.identity = identity
        self._start = start
        self._family: tuple[ProcessKey, ...] = (ProcessKey(identity["pid"], identity["create_time"]),)
        self._returncode: int | None = None
        self._told = threading.Event()
        start.emit(Started(time.time(), start.attempt, identity["pid"], start.command.argv))
        logs = self._connect({"do": "logs"})
        self._output = start.pump(logs.makefile("rb", buffering=0))
        logs.close()  # the stream keeps it open
        for run in (self._wait_for_end, self._watch):
            threading.Thread(target=run, daemon=True).start()

    def family(self) -> tuple[ProcessKey, ...]:
        return self._family

    def look(self) -> None:
        self._family = _keys(self._list()) or self._family[:1]

    def owns_port(self, port: int) -> bool:
        return bool(self._ask({"do": "owns", "port": port}).get("owns"))

    def wait(self, timeout_seconds: float) -> int | None:
        return self._returncode if self._told.wait(timeout_seconds) else None

    def _wait_for_end(self) -> None:
        self._returncode = self._ask({"do": "wait"}).get("returncode", LOST)
        self._output.wait(DRAIN_SECONDS)
        self._start.emit(Exited(time.time(), self._start.attempt, self._returncode))
        self._told.set()

    def _watch(self) -> None:
        while not self._told.wait(LOOK_SECONDS):
            self.look()


def _keys(processes: Sequence[Mapping[str, Any]]) -> tuple[ProcessKey, ...]:
    return tuple(ProcessKey(each["pid"], each["create_time"]) for each in processes)


@hookimpl
def nexus_engines() -> Sequence[EngineProvider]:
    return [ShimProvider()]
