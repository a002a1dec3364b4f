"""The public check of engine providers: the shipped one passes, and each broken promise is found and named."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from nexus_orch.contracts import (
    ByteStream,
    EngineRecord,
    EngineStart,
    LeftEngine,
    OutputPump,
    RunningEngine,
    StopReport,
)
from nexus_orch.launch.processes.local import LocalProcesses
from nexus_orch.testing import check_engine
from nexus_orch.types import Exited, Observation, Started
from tests.plugins.plans import shipped_plugins

pytestmark = pytest.mark.slow

Emit = Callable[[Observation], None]
Pump = Callable[[ByteStream], OutputPump]


def test_the_local_provider_keeps_its_promises(no_process_left: None, tmp_path: Path) -> None:
    check_engine(shipped_plugins().engines()["local"], tmp_path)


class _Engine:
    """A running engine, some of whose answers are others."""

    def __init__(self, inner: RunningEngine, answers: Mapping[str, Any]) -> None:
        self._inner = inner
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._inner, name)
        return self._answers[name](known) if name in self._answers else known


class _Changed(LocalProcesses):
    """The local provider with one thing changed: an answer of its engines, what they tell, or what is found again."""

    kind = "changed"

    def __init__(
        self,
        *,
        emit: Callable[[Emit], Emit] | None = None,
        reopen: Callable[[LeftEngine | None, EngineRecord], LeftEngine | None] | None = None,
        is_impatient: bool = False,
        **answers: Any,
    ) -> None:
        self._emit = emit
        self._reopen = reopen
        self._is_impatient = is_impatient
        self._answers = answers

    def find(self, spec: Any, *, cpu: bool) -> None:
        return None

    def command(self, order: Any) -> Any:
        raise AssertionError("the check brings its own commands")

    def start(self, start: EngineStart) -> RunningEngine:
        start = start if self._emit is None else replace(start, emit=self._emit(start.emit))
        if self._is_impatient:
            pump = start.pump
            start = replace(start, pump=lambda source: _Impatient(source, pump))
        return cast("RunningEngine", _Engine(super().start(start), self._answers))

    def reopen(self, record: EngineRecord) -> LeftEngine | None:
        left = super().reopen(record)
        return left if self._reopen is None else self._reopen(left, record)


class _Named(_Changed):
    kind = "my engine"
    order = "first"  # type: ignore[assignment]
    settings: Mapping[str, Mapping[str, Any]] = {
        "no-name": {"type": "string", "description": "x"},
        "no_type": {"description": "x"},
        "odd": {"type": 7, "description": "x"},
    }


def _twice(emit: Emit) -> Emit:
    def tell(told: Observation) -> None:
        emit(told)
        if isinstance(told, Exited):
            emit(told)

    return tell


class _Impatient:
    """A pump that hears everything half a second late, and for which nobody waits."""

    def __init__(self, source: ByteStream, pump: Pump) -> None:
        reading, writing = os.pipe()
        self._inner = pump(os.fdopen(reading, "rb", buffering=0))
        threading.Thread(target=self._pass_on, args=(source, writing), daemon=True).start()

    def wait(self, timeout_seconds: float) -> bool:
        return True

    def _pass_on(self, source: ByteStream, writing: int) -> None:
        with source, os.fdopen(writing, "wb", buffering=0) as late:
            while piece := os.read(source.fileno(), 65536):
                time.sleep(0.5)
                late.write(piece)


def _without(kind: type[Observation]) -> Callable[[Emit], Emit]:
    return lambda emit: lambda told: None if isinstance(told, kind) else emit(told)


def _other_code(emit: Emit) -> Emit:
    return lambda told: emit(replace(told, returncode=5) if isinstance(told, Exited) else told)


def _other_attempt(emit: Emit) -> Emit:
    return lambda told: emit(replace(told, attempt=2) if isinstance(told, Started) else told)


def _silent_stop(stop: Callable[..., StopReport]) -> Callable[..., StopReport]:
    return lambda **how: replace(stop(**how), rung=None)


BROKEN: dict[str, tuple[_Changed, str]] = {
    "every port is its own": (
        _Changed(owns_port=lambda known: lambda port: True),
        "it owns the port of a process that is not its own",
    ),
    "no port is its own": (
        _Changed(owns_port=lambda known: lambda port: False),
        "it does not own the port on which it listens",
    ),
    "no JSON": (_Changed(identity=lambda known: {**known, "odd": (1, 2)}), "is not the same after it was written"),
    "lost": (_Changed(reopen=lambda left, record: None), "it is not found again by what is written down of it"),
    "told twice": (_Changed(emit=_twice), "Exited is told twice"),
    "late words": (_Changed(is_impatient=True), "Exited comes before the last"),
    "no start": (_Changed(emit=_without(Started)), "Started is not told once, before everything else"),
    "another code": (_Changed(emit=_other_code), "is told as Exited(time="),
    "another attempt": (_Changed(emit=_other_attempt), "carries another attempt than that of the start"),
    "a code too early": (_Changed(wait=lambda known: lambda seconds: 0), "wait gives an exit code while it lives"),
    "nothing lives": (_Changed(list_processes=lambda known: lambda: []), "it has no processes while it lives"),
    "an untold stop": (_Changed(stop=_silent_stop), "the stop of what lives climbs no rung"),
    "no name": (_Named(), "'my engine' cannot be written as engine.kind"),
    "no order": (_Named(), "the order of 'my engine' is no whole number: 'first'"),
    "no name of a setting": (_Named(), "'no-name' cannot be written as a name"),
    "no type": (_Named(), "the schema of plugin.no_type has no type"),
    "no schema": (_Named(), "the schema of plugin.odd is no JSON Schema"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(
    name: str, no_process_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_orch.testing.engines.PATIENCE_SECONDS", 3.0)
    provider, message = BROKEN[name]
    with pytest.raises(AssertionError) as caught:
        check_engine(provider, tmp_path)
    assert message in str(caught.value)
