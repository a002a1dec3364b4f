"""The promises of an engine provider, tried out with real processes: for the tests of plugins that bring one.

from nexus_orch.testing import check_engine

def test_my_engine_keeps_its_promises(tmp_path):
    check_engine(MyProvider(), tmp_path)

Fake engines are started through the provider: what a plan becomes there, a server that listens and one that does not
want to end. All of them are gone afterwards.
"""

from __future__ import annotations

import json
import queue
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nexus_orch.compose.plugin_settings import find_schema_fault
from nexus_orch.contracts import (
    ByteStream,
    EngineProvider,
    EngineRecord,
    EngineStart,
    OutputPump,
    RunningEngine,
    StopReport,
)
from nexus_orch.errors import LaunchError
from nexus_orch.launch.log.pump import LogPump
from nexus_orch.testing.engine import FakeEngine
from nexus_orch.types import Command, Exited, LogLine, Observation, Started

PATIENCE_SECONDS = 60.0
"""How long is waited for what must come; only a broken provider makes anybody wait so long."""

MakeCommand = Callable[[FakeEngine, int], Command]
"""The command that starts such a fake engine with this port in the provider's place."""


def check_engine(
    provider: EngineProvider, folder: Path, *, make_command: MakeCommand | None = None, run_id: str = "check"
) -> None:
    """Raise AssertionError with every promise that the provider breaks. `folder` takes the logs.

    `make_command` is for providers whose `start` takes other commands than those of this machine's programs.
    """
    trial = _Trial(provider, folder, make_command or _plain_command, run_id)
    broken = list(dict.fromkeys(trial.run()))
    assert not broken, f"the engine provider {provider.kind} breaks {len(broken)} promises:\n" + "\n".join(broken)


def _plain_command(engine: FakeEngine, port: int) -> Command:
    return engine.command(port)


@dataclass
class _Started:
    """An engine of the trial, and all that was told of it."""

    engine: RunningEngine
    told: queue.Queue[Observation]
    pump: LogPump | None
    seen: list[Observation] = field(default_factory=list)

    def wait_for(self, wanted: Callable[[Observation], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not any(map(wanted, self.seen)):
            try:
                self.seen.append(self.told.get(timeout=max(deadline - time.monotonic(), 0.01)))
            except queue.Empty:
                return False
        return True

    def wait_for_line(self, text: str) -> bool:
        return self.wait_for(lambda told: isinstance(told, LogLine) and text in told.text)

    def wait_for_end(self) -> Exited | None:
        self.wait_for(lambda told: isinstance(told, Exited))
        return next((told for told in self.seen if isinstance(told, Exited)), None)


@dataclass(frozen=True)
class _Trial:
    provider: EngineProvider
    folder: Path
    make_command: MakeCommand
    run_id: str

    def run(self) -> Iterator[str]:
        yield from self._judge_settings()
        for check in (self._serve, self._end_by_itself, self._resist, self._fail, self._leave):
            yield from check()

    def _judge_settings(self) -> Iterator[str]:
        if not self.provider.kind.isidentifier():
            yield f"{self.provider.kind!r} cannot be written as engine.kind"
        if not isinstance(self.provider.order, int):
            yield f"the order of {self.provider.kind!r} is no whole number: {self.provider.order!r}"
        for name, schema in self.provider.settings.items():
            if not name.isidentifier():
                yield f"{name!r} cannot be written as a name in the section plugin"
            fault = find_schema_fault(schema)
            if fault is not None:
                yield f"the schema of plugin.{name} {fault}"

    def _start(self, behaviour: FakeEngine, port: int, name: str) -> _Started:
        return self._start_command(self.make_command(behaviour, port), name)

    def _start_command(self, command: Command, name: str) -> _Started:
        told: queue.Queue[Observation] = queue.Queue()
        pumps: list[LogPump] = []

        def pump(source: ByteStream) -> OutputPump:
            log = LogPump(source, self.folder / f"{name}.log", attempt=1, emit=told.put)
            log.start()
            pumps.append(log)
            return log

        engine = self.provider.start(EngineStart(command, self.run_id, 1, told.put, pump))
        return _Started(engine, told, pumps[0] if pumps else None)

    def _serve(self) -> Iterator[str]:
        """A server that is asked to end: what is told of it, whose port it is, and how it ends."""
        port, strange = _free_port(), socket.socket()
        with closing(strange):
            strange.bind(("127.0.0.1", 0))
            strange.listen()
            started = self._start(FakeEngine(workers=1), port, "serve")
            try:
                if started.engine.owns_port(strange.getsockname()[1]):
                    yield "it owns the port of a process that is not its own"
                if not started.wait_for_line("Application startup complete"):
                    yield "the lines that it prints are not told"
                    return
                yield from self._judge_life(started, port)
            finally:
                report = started.engine.stop(stop_seconds=PATIENCE_SECONDS)
        yield from _judge_stop(report, started)
        ended = started.wait_for_end()
        if ended is None or ended.returncode != 0:
            yield f"a server that ends when it is asked to is told as {ended}, not as Exited with 0"
        elif not any(isinstance(told, LogLine) and "shutdown" in told.text.lower() for told in started.seen):
            yield "Exited comes before the last lines"
        if started.engine.wait(PATIENCE_SECONDS) != 0:
            yield "wait does not give the exit code of what has ended"
        if self.provider.reopen(self._record(started.engine)) is not None:
            yield "an engine that has ended is found again"

    def _judge_life(self, started: _Started, port: int) -> Iterator[str]:
        engine = started.engine
        if not isinstance(started.seen[0], Started) or sum(isinstance(told, Started) for told in started.seen) != 1:
            yield "Started is not told once, before everything else"
        if any(told.attempt != 1 for told in started.seen):
            yield "an observation carries another attempt than that of the start"
        if not engine.owns_port(port):
            yield "it does not own the port on which it listens"
        if engine.wait(0) is not None:
            yield "wait gives an exit code while it lives"
        if not engine.list_processes():
            yield "it has no processes while it lives"
        engine.look()
        identity = json.loads(json.dumps(dict(engine.identity)))
        if identity != engine.identity:
            yield "its identity is not the same after it was written as JSON"
        left = self.provider.reopen(self._record(engine))
        if left is None or not left.list_processes():
            yield "it is not found again by what is written down of it"

    def _end_by_itself(self) -> Iterator[str]:
        """An engine that fails: its exit code, and that its last words come first."""
        started = self._start(FakeEngine(unknown_options=("--port",)), _free_port(), "fail")
        ended = started.wait_for_end()
        if ended is None or ended.returncode != 2:
            yield f"an engine that ends with exit code 2 is told as {ended}"
        elif not any(isinstance(told, LogLine) and "unrecognized" in told.text for told in started.seen):
            yield "Exited comes before the last words of an engine that failed"
        if any(isinstance(told, Exited) for told in list(started.told.queue)):
            yield "Exited is told twice"
        if started.engine.stop(stop_seconds=1.0).rung is not None:
            yield "the stop of what has ended already climbs a rung"

    def _resist(self) -> Iterator[str]:
        """An engine that heeds no signal is killed, with all that it started."""
        deaf = ("SIGINT", "SIGTERM")
        behaviour = FakeEngine(ignores=deaf, core_ignores=deaf, core_outlives=True)
        started = self._start(behaviour, _free_port(), "resist")
        started.wait_for_line("Application startup complete")
        rungs: list[str] = []
        report = started.engine.stop(stop_seconds=0.2, on_rung=rungs.append)
        yield from _judge_stop(report, started)
        if len(rungs) < 2 or report.rung != rungs[-1]:
            yield f"the rungs that were climbed are told as {rungs}, and the last of them as {report.rung}"
        if started.wait_for_end() is None:
            yield "the end of an engine that was killed is not told"

    def _fail(self) -> Iterator[str]:
        """A command that cannot be started."""
        command = self.make_command(FakeEngine(), _free_port())
        programs = [place for place, word in enumerate(command.argv) if word == FakeEngine.launcher()[0]]
        if not programs:
            return
        words = list(command.argv)
        words[programs[-1]] = "/no/such/program"
        try:
            started = self._start_command(replace(command, argv=tuple(words)), "absent")
        except LaunchError as error:
            if not all(problem.remedy for problem in error.problems):
                yield "the problem of a command that cannot be started has no remedy"
            return
        if started.wait_for_end() is None:
            yield "a command that cannot be started raises no LaunchError and does not end either"
        started.engine.stop(stop_seconds=0.0, force=True)

    def _leave(self) -> Iterator[str]:
        """What is left of an engine is ended by what was written down alone."""
        started = self._start(FakeEngine(core_outlives=True), _free_port(), "leave")
        started.wait_for_line("Application startup complete")
        started.engine.look()
        left = self.provider.reopen(self._record(started.engine))
        if left is None:
            yield "a running engine is not found again by its record"
            started.engine.stop(stop_seconds=0.0, force=True)
            return
        report = left.stop(stop_seconds=PATIENCE_SECONDS, force=True)
        yield from _judge_stop(report, started)
        if self.provider.reopen(self._record(started.engine)) is not None:
            yield "an engine that was found again and stopped is still found"
        if started.wait_for_end() is None:
            yield "an engine that another process has ended is not told as Exited"

    def _record(self, engine: RunningEngine) -> EngineRecord:
        """As a journal gives it back."""
        identity: Mapping[str, Any] = json.loads(json.dumps(dict(engine.identity)))
        return EngineRecord(self.run_id, self.provider.kind, identity, tuple(engine.family()))


def _judge_stop(report: StopReport, started: _Started) -> Iterator[str]:
    if report.rung is None:
        yield "the stop of what lives climbs no rung"
    if report.survivors or report.problems:
        yield f"something survives the stop: {report}"
    if started.engine.list_processes():
        yield "there are processes after the stop"


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
