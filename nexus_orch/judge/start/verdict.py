"""Observations to a verdict: `step` takes one more observation, `judge` folds a whole history. Nothing else decides.

Ready means that the process started, `/health` answers and one real completion came back: `/health` alone can lie. A
failure is final; only its cause may still become clearer, because the last lines of a log can arrive after the exit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nexus_orch.judge.log.conclusion import Conclusion, conclude, show_lines
from nexus_orch.judge.log.measured import Measured
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.reading import LogReading, follow
from nexus_orch.judge.start.ending import is_weak, judge_ending, refine
from nexus_orch.judge.start.hang import judge_hang
from nexus_orch.judge.start.offload import Expected, judge_offload
from nexus_orch.judge.start.progress import Progress, is_working, note_gpu, note_host, note_line
from nexus_orch.judge.start.proof import Footprint, note_footprint, single_speed
from nexus_orch.types import (
    FOREIGN,
    Degraded,
    Exited,
    Failed,
    GpuSample,
    HostSample,
    LogLine,
    Metric,
    Observation,
    Probed,
    Ready,
    Started,
    Starting,
    StopAsked,
    Stopped,
    Vanished,
    Verdict,
)

GONE_SECONDS = 10.0
"""How long the main process may outlive a core or a worker: vLLM ends it within seconds (4.5 s seen with 0.32.0), and
says why meanwhile. API servers that live on for ever have been reported (vLLM issue 55510)."""
DEAD_AFTER_SECONDS = 60.0
DEAD_AFTER_FAILURES = 3
"""A server whose probes fail this often over this long is dead, whatever else it says."""
GRACE_SECONDS = 30.0
"""How long an engine may live on after its log showed a failure: most exit at once, some hang."""


@dataclass(frozen=True)
class Failing:
    """Probes of one kind that fail one after another."""

    since: float
    count: int
    detail: str
    is_foreign: bool = False
    """Another process answered in the engine's place."""


@dataclass(frozen=True)
class RunState:
    """All that is known of an attempt, and the verdict that follows from it."""

    expected: Expected = field(default_factory=Expected)
    attempt: int = 0
    """0 until the process has started."""
    started: float | None = None
    time: float = 0.0
    """The newest observation's."""
    verdict: Verdict = field(default_factory=Starting)
    reading: LogReading = field(default_factory=LogReading)
    progress: Progress = field(default_factory=Progress)
    footprint: Footprint = field(default_factory=Footprint)
    metric: Metric | None = None
    """The newest reading of the server's own metrics."""
    is_healthy: bool = False
    completed: float | None = None
    """When a completion last came back."""
    ready_since: float | None = None
    """When the first completion came back."""
    served_tokens: float = 0.0
    """Output tokens since the start, by the server's own metrics; 0 where it does not tell."""
    moved: float | None = None
    """When the server, once ready, last gave or took a token or had no request."""
    failing_health: Failing | None = None
    failing_completion: Failing | None = None
    shown_failure: float | None = None
    """When the log first showed a failure that nothing has disproved since."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What the log and the probes have measured."""
    vanished: Vanished | None = None
    """The first of its processes that ended although the engine cannot do without it."""
    stop: StopAsked | None = None
    exited: Exited | None = None

    @property
    def measured(self) -> Measured:
        """What the engine printed about itself."""
        return self.reading.measured

    @property
    def host(self) -> HostSample | None:
        """The newest reading of the host."""
        return self.footprint.host

    @property
    def was_ready(self) -> bool:
        return self.completed is not None

    @property
    def is_busy(self) -> bool:
        """Whether requests are running, by the server's own metrics."""
        return self.metric is not None and self.metric.values.get("running", 0.0) > 0


def judge(observations: Iterable[Observation], expected: Expected | None = None) -> Verdict:
    """The verdict on a whole history."""
    state = RunState(expected=expected or Expected())
    for observation in observations:
        state = step(state, observation)
    return state.verdict


def step(state: RunState, observation: Observation) -> RunState:
    """The state after one more observation. What is not of the attempt that started last is ignored."""
    if isinstance(observation, Started) and observation.attempt > state.attempt:
        progress = Progress(observation.time)
        state = RunState(state.expected, observation.attempt, observation.time, progress=progress)
    if observation.attempt != state.attempt:
        return state
    taken = replace(_take(state, observation), time=max(state.time, observation.time))
    return replace(taken, verdict=_judge_state(state, taken, observation))


def _take(state: RunState, observation: Observation) -> RunState:
    taken = state
    match observation:
        case LogLine():
            taken = _take_line(state, observation)
        case Probed(kind="health"):
            taken = _take_health(state, observation)
        case Probed():
            taken = _take_completion(state, observation)
        case GpuSample():
            taken = replace(state, progress=note_gpu(state.progress, observation))
        case HostSample():
            taken = replace(state, progress=note_host(state.progress, observation))
        case Metric():
            taken = _take_metric(state, observation)
        case Vanished():
            taken = replace(state, vanished=state.vanished or observation)
        case StopAsked():
            taken = replace(state, stop=state.stop or observation)
        case Exited():
            taken = replace(state, exited=observation)
    if isinstance(observation, GpuSample | HostSample):
        taken = replace(taken, footprint=note_footprint(taken.footprint, observation))
    return taken


def _take_metric(state: RunState, metric: Metric) -> RunState:
    speed = single_speed(state.metric, metric)
    numbers = state.numbers
    if speed is not None and "tokens_per_second" not in numbers:
        numbers = {**numbers, "tokens_per_second": speed}
    rate = metric.values.get("generation_tokens_per_second", 0.0)
    seconds = 0.0 if state.metric is None else max(0.0, metric.time - state.metric.time)
    taken = replace(state, metric=metric, numbers=numbers, served_tokens=state.served_tokens + rate * seconds)
    if not is_working(metric):
        return taken if taken.is_busy else replace(taken, moved=metric.time)
    progress = replace(state.progress, time=metric.time)
    return replace(taken, progress=progress, moved=metric.time, failing_completion=None, shown_failure=None)


def _take_line(state: RunState, line: LogLine) -> RunState:
    proof = state.expected.proof
    reading = follow(state.reading, line.text, () if proof is None else proof.patterns)
    if reading is state.reading:
        return state
    moved = reading.starting is not state.reading.starting
    shown = state.shown_failure
    if shown is None and reading.evidence.best not in (None, state.reading.evidence.best):
        shown = line.time
    progress = state.progress if state.was_ready else note_line(state.progress, line.time, line.text, moved=moved)
    numbers = state.numbers
    if reading.measured is not state.measured:
        numbers = {**numbers, **reading.measured.numbers()}
    return replace(state, reading=reading, progress=progress, shown_failure=shown, numbers=numbers)


def _take_health(state: RunState, probed: Probed) -> RunState:
    if not probed.ok:
        return replace(state, is_healthy=False, failing_health=_add_failure(state.failing_health, probed))
    progress = state.progress if state.is_healthy else replace(state.progress, time=probed.time)
    return replace(state, is_healthy=True, failing_health=None, progress=progress)


def _take_completion(state: RunState, probed: Probed) -> RunState:
    if isinstance(state.verdict, Failed):
        return state  # it has failed and is being stopped: an answer meanwhile does not make it one that was ready
    if probed.ok:
        numbers = {**state.numbers, **probed.values}
        since = probed.time if state.ready_since is None else state.ready_since
        taken = replace(state, completed=probed.time, ready_since=since, moved=probed.time, numbers=numbers)
        return replace(taken, failing_completion=None, shown_failure=None)
    if probed.kind == "question":
        return state  # cancelled, or the model has no chat template: the engine is none the worse
    return replace(state, failing_completion=_add_failure(state.failing_completion, probed))


def _add_failure(failing: Failing | None, probed: Probed) -> Failing:
    is_foreign = bool(probed.values.get(FOREIGN))
    if failing is None:
        return Failing(probed.time, 1, probed.detail, is_foreign)
    return Failing(failing.since, failing.count + 1, probed.detail, is_foreign)


def _judge_state(before: RunState, state: RunState, observation: Observation) -> Verdict:
    """The verdict on the new state; `before` is the state that the observation found."""
    if isinstance(before.verdict, Failed):
        return _judge_further(before.verdict, state, observation)
    if state.exited is not None:
        return _judge_exit(before, state)
    if state.stop is not None:
        return before.verdict  # what fails from now on fails because it is being stopped
    return _judge_failure(state) or _judge_life(state)


def _judge_further(failed: Failed, state: RunState, observation: Observation) -> Failed:
    """A failure stays one. Its cause may become clearer as long as nobody has stopped the engine."""
    comes_late = isinstance(observation, LogLine | Exited) and state.exited is not None and state.stop is None
    if not comes_late or not is_weak(failed) or state.exited is None:
        return failed
    later = judge_ending(state.reading, state.exited.returncode, state.host, was_ready=state.was_ready)
    return later if isinstance(later, Failed) and later.cause != "unknown" else failed


def _judge_exit(before: RunState, state: RunState) -> Verdict:
    if isinstance(before.verdict, Stopped):
        return before.verdict
    if state.stop is not None:
        return Stopped(state.stop.reason)
    assert state.exited is not None
    ignored = judge_offload(state.reading, state.expected)
    return ignored or judge_ending(state.reading, state.exited.returncode, state.host, was_ready=state.was_ready)


def _judge_failure(state: RunState) -> Failed | None:
    """The failures that an engine can have while its process lives."""
    ignored = judge_offload(state.reading, state.expected)
    if ignored is not None:
        return ignored
    found = _conclude(state)
    if found is not None and state.shown_failure is not None:
        quiet_since = max(state.shown_failure, state.progress.time)
        if state.time - quiet_since >= GRACE_SECONDS:
            return refine(Failed(found.cause, found.lines, found.remedy), state.host)
    if state.vanished is not None and state.time - state.vanished.time >= GONE_SECONDS:
        return _make_gone(state, state.vanished)
    hung = judge_hang(state)
    if hung is not None:
        return hung
    for name, failing in (("/health", state.failing_health), ("completions", state.failing_completion)):
        if failing is not None and _is_dead(state, failing, name):
            return _make_dead(state, name, failing)
    return None


def _is_dead(state: RunState, failing: Failing, name: str) -> bool:
    if name == "/health" and not state.was_ready:
        return False  # a server that does not answer yet is one that starts
    return failing.count >= DEAD_AFTER_FAILURES and state.time - failing.since >= DEAD_AFTER_SECONDS


def _make_gone(state: RunState, vanished: Vanished) -> Failed:
    """A core or a worker ended, and the main process lives on without it."""
    told = f"{describe_vanished(vanished)}, and the main process lived on for {state.time - vanished.time:.0f} s"
    found = _conclude(state)
    if found is not None:
        return Failed(found.cause, (*found.lines, told), found.remedy)
    return Failed("worker_died", (told, *show_lines(state.reading)), shipped_patterns().remedy("worker_died"))


def describe_vanished(vanished: Vanished) -> str:
    return f"the engine's process {vanished.name} ({vanished.pid}) is gone"


def _make_dead(state: RunState, name: str, failing: Failing) -> Failed:
    told = f"{name} failed {failing.count} times in {state.time - failing.since:.0f} s: {failing.detail}"
    if name == "completions" and state.is_healthy:
        told += "; /health said that all is well"
    found = _conclude(state)
    if found is not None:
        return Failed(found.cause, (*found.lines, told), found.remedy)
    return Failed("engine_dead", (told, *show_lines(state.reading)), shipped_patterns().remedy("engine_dead"))


def _conclude(state: RunState) -> Conclusion | None:
    """What the log shows of a failure; an unknown exception alone is none as long as the engine lives."""
    return None if state.reading.evidence.best is None else conclude(state.reading, is_whole=True)


def _judge_life(state: RunState) -> Verdict:
    """The verdict on an engine that lives and has not failed."""
    starting = state.reading.starting
    if not state.was_ready:
        if state.failing_completion is None:
            return starting
        return replace(starting, detail=f"a completion failed: {state.failing_completion.detail}")
    return _find_ailment(state) or (Ready(state.numbers) if state.is_healthy else starting)


def _find_ailment(state: RunState) -> Degraded | None:
    """What is wrong with a server that had been ready and has not failed yet."""
    if state.vanished is not None and not state.reading.evidence.told_to_stop:
        return Degraded(f"{describe_vanished(state.vanished)}: no request is answered")
    found = _conclude(state)
    if found is not None and state.shown_failure is not None:
        return Degraded(f"the engine's log shows {found.cause}: {found.lines[0]}", found.remedy)
    if state.failing_health is not None:
        return Degraded(f"/health does not answer: {state.failing_health.detail}")
    if state.failing_completion is not None:
        return Degraded(f"a completion failed: {state.failing_completion.detail}")
    return None
