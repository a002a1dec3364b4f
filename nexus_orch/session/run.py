"""A whole run: refuse what cannot work, launch, judge, learn, try again; leave a record and nothing else behind."""

from __future__ import annotations

import os
import platform
import queue
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

import psutil

from nexus_orch import __version__, paths
from nexus_orch.adapt.offload_guards import gives
from nexus_orch.errors import (
    ConfigError,
    ExitCode,
    InterruptedByEnvironment,
    LaunchError,
    NexusError,
    PlanError,
    Problem,
)
from nexus_orch.facts.machine.gpus import read_visible
from nexus_orch.launch.processes.signals import StopRequested, StopSignals
from nexus_orch.launch.server.ports import (
    FIRST_PORT,
    FIRST_PRIVATE_PORT,
    PRIVATE_HOST,
    choose_port,
    choose_private_port,
    claim_port,
)
from nexus_orch.launch.server.server import Server
from nexus_orch.nvml import open_nvml
from nexus_orch.plugin_manager import Plugins
from nexus_orch.record.events import AttemptEnded, Continued, Created, Finished, Planned
from nexus_orch.record.history import history_path, remember_run
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_folder import create_run_folder, encode_plan, remove_run_folder, write_command, write_plan
from nexus_orch.record.stop_request import read_stop_request
from nexus_orch.record.writer import RunWriter
from nexus_orch.session.adjust import Adviser
from nexus_orch.session.ahead import prepare_ram
from nexus_orch.session.attempt import AttemptEnd, LoopEvent, Scene, run_attempt
from nexus_orch.session.course import Course, NextAttempt, is_same_launch
from nexus_orch.session.door import RunDoor
from nexus_orch.session.dynamic import Advise
from nexus_orch.session.learning import store_measurement
from nexus_orch.session.left_over import describe_left_over, read_left_over
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.session.refuse import refusal_of
from nexus_orch.session.task import ServedTask
from nexus_orch.types import EngineFacts, Failed, Lesson, Plan, ProcessKey, RunSpec, Stopped
from nexus_orch.view.run_view import RunView

PAUSE_TICK_SECONDS = 0.2
"""How often a wish to stop is looked for between two attempts."""
NOT_PLANNED = (PlanError, ConfigError)
"""What says that there can be no other attempt: it does not fit, or what was learned asks for what cannot be had."""


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run that was launched. `measured` are its numbers by name; `problems` why it is not good."""

    run_id: str
    exit_code: ExitCode
    cause: str | None = None
    problems: tuple[Problem, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    stopped: str = ""
    """Who wanted it to end, and how; empty when it ended by itself."""
    was_ready: bool = False


def prepare_run(
    spec: RunSpec,
    plugins: Plugins,
    lessons: tuple[Lesson, ...] = (),
    *,
    uses_learned: bool = True,
    door_port: int | None = None,
) -> Preparation:
    """Facts, plan and command for a launch on this machine now. Raises NexusError when it must not be launched.

    `door_port` is where the run's front door listens already.
    """
    facts, provider = read_facts(spec, plugins)
    lessons = (*_learn_port(spec, door_port), *lessons)
    private_port = choose_private_port() if spec.serve.front_door else FIRST_PRIVATE_PORT
    preparation = make_preparation(
        spec, facts, provider, plugins, lessons, uses_learned=uses_learned, private_port=private_port
    )
    refusal = refusal_of(preparation)
    if refusal is not None:
        raise refusal
    return preparation


def _learn_port(spec: RunSpec, door_port: int | None) -> tuple[Lesson, ...]:
    """The port that is free now, where the user left it open; an open door keeps its own. Raises ConfigError when a
    pinned one is taken."""
    port = door_port or choose_port(spec.serve.host, spec.serve.port, origin=spec.origin("serve.port"))
    if spec.serve.port is not None or port == FIRST_PORT:
        return ()
    return (Lesson("serve.port", port, f"{FIRST_PORT} is taken; this is the next free one"),)


def run_session(
    preparation: Preparation, plugins: Plugins, view: RunView, task: ServedTask | None = None
) -> RunOutcome:
    """Launch what was prepared and stay with it to its end, which comes with that of `task`, if there is one.

    Raises what the task raised, once the engine is down.
    """
    session = _Session(preparation, plugins, view, task)
    try:
        return session.run()
    except NexusError as error:
        session.write_end(error)
        raise
    finally:
        session.close()


class _Session:
    """One run with its folder, its attempts and what was learned from them."""

    def __init__(self, preparation: Preparation, plugins: Plugins, view: RunView, task: ServedTask | None) -> None:
        self._spec = preparation.spec
        self._task = task
        self._prepared = preparation
        self._plugins = plugins
        self._view = view
        serves = task is None and self._spec.probe.then != "stop"
        self._course = Course(self._spec.memory, self._spec.limits, serves)
        self._events: queue.Queue[LoopEvent] = queue.Queue()
        self._writer = open_record(preparation, plugins)
        self._folder = self._writer.folder
        self._is_told = True
        self._door = RunDoor(self._spec)

    def run(self) -> RunOutcome:
        """Attempt after attempt until one ends well, nothing more can be learned, or somebody wants it to stop."""
        for problem in describe_left_over(read_left_over(paths.runs_dir(), self._plugins)):
            self._view.message(f"{problem.message}; {problem.remedy}")
        with StopSignals(self._events.put) as signals:
            number = 1
            while True:
                end = self._attempt(number, signals)
                step = self._end_attempt(number, end)
                number += 1
                stop = None if step is None else self._tell_and_pause(number, step)
                if stop is not None:
                    return self._finish(replace(end, verdict=Stopped(stop.reason), stop=stop))
                try:
                    if step is None or not self._prepare_next(number, step):
                        return self._finish(end, self._given_up())
                except NOT_PLANNED as error:
                    if not isinstance(end.verdict, Failed):
                        raise
                    return self._finish(end, error.problems)

    def _prepare_next(self, number: int, step: NextAttempt | None) -> bool:
        """Plan the next attempt; False when it would only repeat the last one. Raises one of NOT_PLANNED when it cannot
        be planned."""
        before = self._prepared
        while step is not None:
            try:
                self._prepared = self._prepare()
            except NOT_PLANNED:
                step = self._course.go_back("with what was learned no plan fits")
                if step is None:
                    raise
                self._tell_and_pause(number, step)
                continue
            if step.kind != "retry" or not is_same_launch(before, self._prepared):  # a retry must differ
                self._course.note_plan(step, before.plan, self._prepared.plan)
                return True
            step = self._course.go_back("what was learned changes nothing")
            if step is not None:
                self._tell_and_pause(number, step)
        return False

    def _given_up(self) -> tuple[Problem, ...]:
        return (Problem(self._course.given_up),) if self._course.given_up else ()

    def _tell_and_pause(self, number: int, step: NextAttempt) -> StopRequested | None:
        """Say why there is another attempt, and wait before it; the wish to stop, if it came meanwhile."""
        wait = f" in {step.pause_seconds:.0f} s" if step.pause_seconds else ""
        self._view.message(f"attempt {number}{wait}: {step.message}")
        self._door.pause(step.pause_seconds)
        self._writer.write(Continued(time.time(), number - 1, step.kind, step.message, step.pause_seconds))
        until = time.monotonic() + step.pause_seconds
        while True:
            asked = read_stop_request(self._folder.stop_request)
            if asked is not None:
                return StopRequested(time.time(), asked.reason, ExitCode.GOOD)
            with suppress(queue.Empty):
                event = self._events.get(timeout=min(PAUSE_TICK_SECONDS, max(0.0, until - time.monotonic())))
                if isinstance(event, StopRequested):
                    return event
            if time.monotonic() >= until:
                return None

    def write_end(self, error: NexusError) -> None:
        """Record an end that no attempt had: the engine could not be started, or the next plan was refused."""
        problem = error.problems[0]
        try:
            self._writer.write(Finished(time.time(), int(error.exit_code), problem.cause, problem.message))
        except InterruptedByEnvironment:  # the disk takes no more: what ended the run is told, not this
            self._is_told = read_run(self._folder.path).engine is not None

    def close(self) -> None:
        """End the record and give the terminal back; the run's processes are gone already. Of a run that launched
        nothing and could not say so, nothing stays."""
        try:
            self._door.close()
            self._writer.close()
            if not self._is_told:
                remove_run_folder(self._folder)
                return
            record = read_run(self._folder.path)
            remember_run(history_path(), paths.runs_dir(), record)
        except NexusError as error:  # the folder is the truth; the history is made again from it
            self._view.message(f"warning: {error}")
        finally:
            self._view.close()

    def _attempt(self, number: int, signals: StopSignals) -> AttemptEnd:
        self._open_door()
        with self._claim_port():
            return self._launch(number, signals)

    def _open_door(self) -> None:
        """Let clients in; when a start beside this one was faster at the port, plan anew on another one."""
        while True:
            try:
                return self._door.open(self._prepared.plan)
            except ConfigError:
                if self._spec.serve.port is not None:
                    raise
            self._prepared = self._prepare()

    def _claim_port(self) -> AbstractContextManager[object]:
        """Hold the engine's port; when a start beside this one was faster, plan anew on another one."""
        while True:
            private = self._prepared.engine_port
            claim = claim_port(private or int(self._prepared.plan.settings["serve.port"]))
            if claim is not None:
                return claim
            if self._spec.serve.port is not None and private is None:
                return nullcontext()  # the user wants this one: the engine will say that it is taken
            self._prepared = self._prepare()

    def _prepare(self) -> Preparation:
        return prepare_run(self._spec, self._plugins, self._course.lessons, door_port=self._door.port)

    def _launch(self, number: int, signals: StopSignals) -> AttemptEnd:
        plan = self._prepared.plan
        command = self._prepared.command()
        api_key_env = self._spec.serve.api_key_env
        clients = Server(
            host=self._spec.serve.host,
            port=int(plan.settings["serve.port"]),
            model=plan.settings.get("model.served_name"),
            api_key=None if api_key_env is None else os.environ.get(api_key_env),
        )
        private = self._prepared.engine_port
        server = clients if private is None else replace(clients, host=PRIVATE_HOST, port=private)
        self._door.start()
        write_plan(self._folder, plan)
        write_command(self._folder, command)
        self._writer.write(Planned(time.time(), number, encode_plan(plan)))
        self._view.plan(plan, command, run_id=self._folder.id, url=clients.url)
        scene = Scene(
            attempt=number,
            provider=self._prepared.provider,
            command=command,
            server=server,
            clients=clients,
            plan=plan,
            limits=self._spec.limits,
            probe=self._spec.probe,
            folder=self._folder,
            writer=self._writer,
            view=self._view,
            events=self._events,
            hurry=signals.hurry,
            door=self._door,
            advise=self._adviser(),
            gpus=find_cards(plan, self._prepared.facts.engine, {**os.environ, **command.env}),
            task=self._task,
        )
        return prepare_ram(scene, self._prepared.facts) or run_attempt(scene)

    def _adviser(self) -> Advise | None:
        if self._spec.memory.dynamic == "off":
            return None
        course = self._course
        return Adviser(self._prepared, self._plugins, course.lessons, dict(course.moved), course.may_adjust).advise

    def _end_attempt(self, number: int, end: AttemptEnd) -> NextAttempt | None:
        """Record how it ended and what it taught, and say what follows when nobody wanted it to end."""
        step = None
        if end.stop is None:
            step = self._course.after(end.verdict, end.state, end.adjustment, self._prepared)
        lessons = () if step is None else step.lessons
        self._writer.write(AttemptEnded(time.time(), number, end.verdict, lessons))
        problems = end.release.problems
        if end.state.was_ready:
            problems += store_measurement(self._prepared.plan, self._prepared.facts, end.state.measured)
        for problem in problems:
            self._view.message(f"{problem.message}; {problem.remedy}")
        return step

    def _finish(self, end: AttemptEnd, problems: tuple[Problem, ...] = ()) -> RunOutcome:
        """End the run with its last attempt; `problems` are why no other one can follow."""
        outcome = judge_end(self._folder.id, end)
        outcome = replace(outcome, problems=(*outcome.problems, *problems))
        if end.stop is None:
            self._door.give_up(" ".join(problem.message for problem in outcome.problems[:2]) or "the run has ended")
        reason = "" if end.stop is None else end.stop.reason
        self._writer.write(Finished(time.time(), int(outcome.exit_code), outcome.cause, reason, outcome.measured))
        return outcome


def open_record(preparation: Preparation, plugins: Plugins) -> RunWriter:
    """A new folder with the first entry of its journal. Raises InterruptedByEnvironment, and leaves no folder then."""
    folder = create_run_folder(paths.runs_dir(), preparation.spec, time.time())
    try:
        writer = RunWriter(folder)
        try:
            writer.write(_created(preparation, plugins))
        except InterruptedByEnvironment:
            with suppress(InterruptedByEnvironment):
                writer.close()
            raise
    except InterruptedByEnvironment:
        remove_run_folder(folder)
        raise
    return writer


def find_cards(plan: Plan, engine: EngineFacts, environ: Mapping[str, str]) -> tuple[int, ...]:
    """The cards that the engine takes, by NVML's index: of those that its environment shows, one for each rank.

    All of them with data parallelism, where the plan is that of one engine. None on the CPU engine, and none for a
    slice of a card (MIG): what its card holds belongs to others, too.
    """
    if engine.device == "cpu":
        return ()
    with open_nvml() as nvml:
        shown = tuple(device.index for device in read_visible(nvml, environ).devices)
    side_by_side = plan.settings.get("serve.data_parallel") or gives(plan, engine, "--data-parallel-size")
    return shown if side_by_side else shown[: len(plan.per_gpu)]


def judge_end(run_id: str, end: AttemptEnd) -> RunOutcome:
    """The run's exit code and what to say about it."""
    measured, was_ready = end.state.numbers, end.state.was_ready
    stopped = "" if end.stop is None else end.stop.reason
    if isinstance(end.verdict, Failed) and (end.stop is None or end.verdict.cause != "unknown"):
        failed = end.verdict
        problem = Problem("\n    ".join([f"the engine failed: {failed.cause}", *failed.evidence]), remedy=failed.remedy)
        return RunOutcome(run_id, LaunchError.exit_code, failed.cause, (problem,), measured, stopped, was_ready)
    if end.stop is None:
        return RunOutcome(run_id, ExitCode.GOOD, measured=measured, was_ready=was_ready)
    problems = (Problem(end.stop.reason),) if end.stop.exit_code == InterruptedByEnvironment.exit_code else ()
    return RunOutcome(run_id, end.stop.exit_code, None, problems, measured, stopped, was_ready)


def _created(preparation: Preparation, plugins: Plugins) -> Created:
    spec, this = preparation.spec, psutil.Process()
    return Created(
        time=time.time(),
        name=spec.name,
        model=preparation.plan.model,
        hardware=preparation.facts.machine.name,
        supervisor=ProcessKey(this.pid, this.create_time()),
        nexus_version=__version__,
        strategy=spec.memory.strategy,
        host=platform.node(),
        project="" if plugins.project is None else str(plugins.project),
    )
