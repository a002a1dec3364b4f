"""One attempt: all that happens to an engine arrives on one queue, and one loop owns what is made of it.

Threads only observe (log pump, process watcher, sampler, readiness watch, signals). This loop alone steps the judge's
state, writes the journal and feeds the view, so a run can be understood from what it recorded.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nexus_orch.contracts import ByteStream, EngineProvider, EngineStart, RunningEngine
from nexus_orch.errors import ExitCode
from nexus_orch.judge.log.important import is_important
from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.hang import is_suspect
from nexus_orch.judge.start.offload import make_expected
from nexus_orch.judge.start.stall import judge_stall
from nexus_orch.judge.start.verdict import RunState, step
from nexus_orch.launch.log.pump import LogPump
from nexus_orch.launch.processes.signals import StopRequested
from nexus_orch.launch.processes.stacks import write_stacks
from nexus_orch.launch.server.question import ask_question
from nexus_orch.launch.server.readiness import ReadinessWatch
from nexus_orch.launch.server.server import Server
from nexus_orch.observe.sampler import Sampler
from nexus_orch.record.events import Family, Launched, Stopping
from nexus_orch.record.run_folder import RunFolder
from nexus_orch.record.stop_request import StopRequest, read_stop_request
from nexus_orch.record.writer import RunWriter
from nexus_orch.session.door import RunDoor
from nexus_orch.session.dynamic import Advise, Watchman, count_requests
from nexus_orch.session.release import Release, releasing
from nexus_orch.session.task import Served, ServedTask, TaskEnded, TaskEvent, TaskSaid, start_task
from nexus_orch.types import (
    MIB,
    Command,
    Degraded,
    Failed,
    LimitsSpec,
    Observation,
    Plan,
    Probed,
    ProbeSpec,
    ProcessKey,
    Ready,
    StopAsked,
    Vanished,
    Verdict,
)
from nexus_orch.view.run_view import RunView

TICK_SECONDS = 0.5
"""How often stop requests, the engine's family and the stall limit are looked at when nothing else happens."""

LoopEvent = Observation | StopRequested | TaskEvent


@dataclass(frozen=True)
class Scene:
    """What an attempt starts, whom it asks, and who is told."""

    attempt: int
    provider: EngineProvider
    command: Command
    server: Server
    """The engine's own; `clients` is where clients ask, which is the same without a front door."""
    clients: Server
    plan: Plan
    limits: LimitsSpec
    probe: ProbeSpec
    folder: RunFolder
    writer: RunWriter
    view: RunView
    events: queue.Queue[LoopEvent]
    hurry: threading.Event
    door: RunDoor
    advise: Advise | None = None
    """What to say about a lack of memory; None with memory.dynamic=off."""
    gpus: tuple[int, ...] = ()
    """The cards of the run by NVML's index: what others do on the rest says nothing of it."""
    task: ServedTask | None = None
    """What is done with the server once it is ready; the attempt ends with it."""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended; its processes are gone, or `release` says which are not.

    `stop` tells who wanted the end; None when the engine failed or the work was done.
    """

    verdict: Verdict
    state: RunState
    stop: StopRequested | None
    release: Release
    answer: Probed | None
    adjustment: Advice | None = None
    """The better plan for which it was stopped."""


def run_attempt(scene: Scene) -> AttemptEnd:
    """Start the engine, follow it until it fails, has answered or is to stop, and take it down again."""
    with releasing(scene.gpus, scene.limits.stop_seconds, scene.hurry) as release:
        start = EngineStart(scene.command, scene.folder.id, scene.attempt, scene.events.put, _make_pump(scene))
        engine = scene.provider.start(start)
        release.engine = engine
        loop = _Loop(scene, engine)
        with _watching(scene, engine, loop):
            loop.follow()
        _take_down(release, loop)
    loop.finish_task()
    return AttemptEnd(loop.verdict, loop.state, loop.stop, release, loop.answer, loop.adjustment)


def _make_pump(scene: Scene) -> Callable[[ByteStream], LogPump]:
    """What reads the engine's output into its log and onto the queue."""

    def pump(source: ByteStream) -> LogPump:
        log = LogPump(
            source,
            scene.folder.log,
            attempt=scene.attempt,
            emit=scene.events.put,
            limit_bytes=scene.limits.log_mib * MIB,
            important=is_important,
            backlog=scene.events.qsize,
        )
        log.start()
        return log

    return pump


def _take_down(release: Release, loop: _Loop) -> None:
    """Stop the engine in a thread, so that what it still says is taken in, shown and recorded meanwhile."""
    loop.announce_stop()
    stopping = threading.Thread(target=release.take_down, name="nexus-stop", daemon=True)
    stopping.start()
    while stopping.is_alive():
        loop.take_one()
    loop.take_rest()


@contextmanager
def _watching(scene: Scene, engine: RunningEngine, loop: _Loop) -> Iterator[None]:
    """The threads that look at the engine, for as long as the loop runs."""
    attempt, emit = scene.attempt, scene.events.put
    is_ours = _PortOwner(engine, scene.server.port)
    watch = ReadinessWatch(
        scene.server,
        attempt=attempt,
        emit=emit,
        is_idle=loop.is_idle,
        is_suspect=lambda: is_suspect(loop.state),
        is_ours=is_ours,
    )
    sampler = Sampler(
        scene.server, family=engine.family, attempt=attempt, emit=emit, is_ours=is_ours, gpu_indices=scene.gpus
    )
    watch.start()
    sampler.start()
    try:
        yield
    finally:
        loop.cancel.set()
        watch.stop()
        sampler.stop()


class _PortOwner:
    """Whether the engine listens on its port. Looked for until it does: nobody can take the port from it then."""

    def __init__(self, engine: RunningEngine, port: int) -> None:
        self._engine = engine
        self._port = port
        self._owns = False

    def __call__(self) -> bool:
        self._owns = self._owns or self._engine.owns_port(self._port)
        return self._owns


class _Loop:
    """The one writer of an attempt's state."""

    def __init__(self, scene: Scene, engine: RunningEngine) -> None:
        self.state = RunState(expected=make_expected(scene.plan))
        self.stop: StopRequested | None = None
        self.answer: Probed | None = None
        self.cancel = threading.Event()
        self._scene = scene
        self._engine = engine
        self._family: tuple[ProcessKey, ...] = ()
        self._asked = False
        self._task: threading.Thread | None = None
        self._task_end: TaskEnded | None = None
        self._watchman = Watchman(scene.plan, scene.limits, scene, scene.attempt, scene.advise)

    @property
    def verdict(self) -> Verdict:
        return self.state.verdict

    @property
    def adjustment(self) -> Advice | None:
        return self._watchman.adjustment

    def is_idle(self) -> bool:
        """Whether the server works on no request, as its own metrics told last."""
        return count_requests(self.state.metric) == 0

    def follow(self) -> None:
        """Take one event after another until the attempt is over."""
        self._write_launch()
        while not self._is_over():
            asked = read_stop_request(self._scene.folder.stop_request)
            if asked is not None:
                self._accept_request(asked)
            elif not self.take_one():
                self._check_stall()
            self._write_family()

    def take_one(self) -> bool:
        """Wait for an event and take it; False when nothing happened for a tick."""
        try:
            event = self._scene.events.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return False
        self._take(event)
        return True

    def take_rest(self) -> None:
        """Take all events that have already arrived."""
        while not self._scene.events.empty():
            self._take(self._scene.events.get())

    def _take(self, event: LoopEvent) -> None:
        match event:
            case StopRequested():
                self._accept_stop(event)
            case TaskSaid():
                self._scene.view.message(event.text)
            case TaskEnded():
                self._task_end = event
            case _:
                self._observe(event)

    def _is_over(self) -> bool:
        if self.stop is not None or isinstance(self.verdict, Failed) or self.adjustment is not None:
            return True
        if self._scene.task is not None:
            return self._task_end is not None
        done = self._scene.probe.then == "stop" and isinstance(self.verdict, Ready)
        return done and (self._scene.probe.question is None or self.answer is not None)

    def announce_stop(self) -> None:
        """From now on the engine's end is wanted, not a failure."""
        if self.stop is None:
            reason = "done" if self.adjustment is None else f"adjustment: {self.adjustment.change}"
            self._observe(StopAsked(time.time(), self._scene.attempt, reason))
            self._scene.door.replace(f"the server is being restarted ({reason})")

    def _observe(self, observation: Observation) -> None:
        before = self.verdict
        self.state = step(self.state, observation)
        self._scene.writer.observe(observation)
        self._scene.view.observe(observation)
        if isinstance(observation, Probed) and observation.kind == "question":
            self.answer = observation
            self._scene.view.answer(self._scene.probe.question or "", observation)
        if isinstance(observation, Vanished):
            self._scene.door.doubt()
        if self.verdict != before:
            self._tell_verdict(observation.time)
            if isinstance(self.verdict, Failed) and is_suspect(self.state):
                self._write_stacks()
        if isinstance(self.verdict, Ready) and not self._asked:
            self._ask()
            if self._scene.task is not None:
                self._begin_task(self._scene.task)
        if isinstance(self.verdict, Ready | Degraded) and self.state.stop is None:
            self._watchman.observe(observation, self.state)

    def _tell_verdict(self, now: float) -> None:
        scene = self._scene
        scene.writer.judge(now, scene.attempt, self.verdict)
        scene.view.verdict(self.verdict)
        if self.state.stop is None:
            scene.door.judge(self.verdict, scene.server, scene.plan)

    def _write_stacks(self) -> None:
        """Write down what the processes of an engine that hangs are doing, while they are there."""
        path = self._scene.folder.stacks
        told = write_stacks(self._engine.family(), path, self._scene.command.argv[0])
        self._scene.view.message(f"it hangs: {told or 'its processes cannot be seen from here'}; {path}")

    def _check_stall(self) -> None:
        now = time.time()
        stalled = judge_stall(self.state, now, self._scene.limits.startup_stall_seconds)
        if stalled is not None:
            self.state = stalled
            self._tell_verdict(now)

    def _accept_request(self, request: StopRequest) -> None:
        """Another process asked, by a file in the run folder: the run ends as it was wanted to."""
        if request.force:
            self._scene.hurry.set()
        self._accept_stop(StopRequested(time.time(), request.reason, ExitCode.GOOD), force=request.force)

    def _accept_stop(self, request: StopRequested, *, force: bool = False) -> None:
        if self.stop is not None:
            return  # the second one hurries the stop ladder, which StopSignals has seen to
        self.stop = request
        self._scene.view.message(f"stopping: {request.reason}")
        self._observe(StopAsked(request.time, self._scene.attempt, request.reason))
        self._scene.writer.write(Stopping(request.time, request.reason, force))
        self._scene.door.give_up(f"the server is being stopped: {request.reason}")

    def _ask(self) -> None:
        """Put the question in a thread of its own; the answer comes back as an event."""
        self._asked = True
        question = self._scene.probe.question
        if question is not None:
            threading.Thread(target=self._put_question, args=(question,), name="nexus-question", daemon=True).start()

    def _begin_task(self, task: ServedTask) -> None:
        """Work with the server in a thread of its own; what it says and its end come back as events."""
        scene = self._scene
        emit = scene.events.put
        served = Served(
            server=scene.server,
            plan=scene.plan,
            command=scene.command,
            log=scene.folder.log,
            gpus=scene.gpus,
            family=self._engine.family,
            measured=self.state.numbers,
            say=lambda text: emit(TaskSaid(text)),
            cancel=self.cancel,
        )
        self._task = start_task(task, served, emit)

    def finish_task(self) -> None:
        """Wait for the end of a task whose engine is gone. Raises what the task raised."""
        if self._task is not None:
            self._task.join()
            self.take_rest()
        if self._task_end is not None and self._task_end.error is not None:
            raise self._task_end.error

    def _put_question(self, question: str) -> None:
        scene = self._scene
        answer = ask_question(
            scene.server, question, attempt=scene.attempt, max_tokens=scene.probe.max_tokens, stop=self.cancel
        )
        scene.events.put(answer)

    def _write_launch(self) -> None:
        engine, scene = self._engine, self._scene
        main = next(iter(engine.family()), None)
        kind, identity = scene.provider.kind, engine.identity
        told = scene.clients
        scene.writer.write(Launched(time.time(), scene.attempt, main, told.port, told.url, kind, identity))

    def _write_family(self) -> None:
        family = tuple(self._engine.family())
        if family != self._family:
            self._family = family
            self._scene.writer.write(Family(time.time(), self._scene.attempt, family))
