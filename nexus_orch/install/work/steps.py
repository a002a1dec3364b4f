"""Steps that are done once: the journal remembers them, and a step whose inputs changed is done again.

Events in the journal: `begin` (the steps' names), `started` (a step), `child` (a process that a step runs), `finished`
(a step, its key and its result). A key is a digest of the step's inputs and of the key before it, so that a step which
is done again takes all later ones with it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from nexus_orch.install.work.child import stop_tree
from nexus_orch.install.work.journal import Journal, JournalEvent
from nexus_orch.install.work.progress import Reporter

Results = dict[str, dict[str, Any]]
"""What the steps so far found out, by the step's name; each is written into the journal as JSON."""


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Step:
    """One step. `action` must be idempotent: it can be killed at any point and is then called again from its start.

    `title` says what it does, as in "install torch". `still_holds` is asked before a finished step is passed over.
    """

    name: str
    title: str
    action: Callable[[Results], dict[str, Any]]
    inputs: tuple[str, ...] = ()
    still_holds: Callable[[], bool] = _always


@dataclass(frozen=True)
class StepsState:
    """How far an installation came, from its journal: the names of all its steps and of the finished ones."""

    names: tuple[str, ...]
    finished: tuple[str, ...]

    @property
    def next_name(self) -> str | None:
        return next((name for name in self.names if name not in self.finished), None)


def run_steps(steps: Sequence[Step], journal: Journal, reporter: Reporter) -> Results:
    """Do the steps that are not finished yet, in their order. Raises what a step raises; the finished ones stay."""
    events = journal.read()
    _stop_leftover_child(events)
    names = [step.name for step in steps]
    finished = _choose_finished(events, names)
    journal.append({"event": "begin", "time": time.time(), "steps": names})
    reporter.begin([step.title for step in steps])
    results: Results = {}
    for step, key in zip(steps, _make_keys(steps), strict=True):
        done = finished.get(step.name)
        if done is not None and done["key"] == key and step.still_holds():
            results[step.name] = done["result"]
            reporter.skip(step.title)
        else:
            finished = {}  # What comes after a step that is done again is done again too.
            _do_step(step, key, results, journal, reporter)
    return results


def _do_step(step: Step, key: str, results: Results, journal: Journal, reporter: Reporter) -> None:
    journal.append({"event": "started", "time": time.time(), "step": step.name})
    reporter.start(step.title)
    clock = time.monotonic()
    results[step.name] = step.action(results)
    seconds = round(time.monotonic() - clock, 3)
    event = {"event": "finished", "time": time.time(), "step": step.name, "key": key, "seconds": seconds}
    journal.append(event | {"result": results[step.name]})
    reporter.finish(step.title, seconds)


def record_child(journal: Journal, pid: int) -> None:
    """Write down a child, so that the next call can stop it when this process is killed before it."""
    try:
        created = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return  # It has ended already.
    journal.append({"event": "child", "pid": pid, "created": created})


def read_state(journal: Journal) -> StepsState:
    """How far the installation came. Empty names when it never began."""
    events = journal.read()
    begun = [event["steps"] for event in events if event["event"] == "begin"]
    names = tuple(begun[-1]) if begun else ()
    return StepsState(names, tuple(_choose_finished(events, names)))


def _choose_finished(events: Sequence[JournalEvent], names: Sequence[str]) -> dict[str, JournalEvent]:
    """The `finished` event of each step that is still finished: a step that is started again takes itself and all
    later ones back."""
    finished: dict[str, JournalEvent] = {}
    for event in events:
        name = str(event.get("step"))
        if name not in names:
            continue
        if event["event"] == "started":
            position = names.index(name)
            finished = {other: done for other, done in finished.items() if names.index(other) < position}
        elif event["event"] == "finished":
            finished[name] = event
    return finished


def _make_keys(steps: Sequence[Step]) -> list[str]:
    keys: list[str] = []
    for step in steps:
        parts = (keys[-1] if keys else "", step.name, *step.inputs)
        keys.append(hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16])
    return keys


def _stop_leftover_child(events: Sequence[JournalEvent]) -> None:
    """A killed installer leaves its pip running for a while; two of them must not write into one environment."""
    last = next((event for event in reversed(events) if event["event"] in ("child", "finished")), None)
    if last is not None and last["event"] == "child":
        stop_tree(int(last["pid"]), float(last["created"]))
