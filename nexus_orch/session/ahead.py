"""The stage between plan and launch: the RAM of the run is tried out, and its weights are read into the page cache.

The trial comes first, because it drops what is cached. The loop is the attempt's in small: Ctrl-C and `nexus stop` end
it at once, and what happens is shown and recorded.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from nexus_orch.errors import ExitCode, InterruptedByEnvironment, PlanError, Problem
from nexus_orch.facts.machine.host import read_this_host
from nexus_orch.judge.start.verdict import RunState
from nexus_orch.launch.processes.signals import StopRequested
from nexus_orch.plan.answer.ram_first import CHANNELS, RESERVE, reads_ahead
from nexus_orch.ram.lack import find_lack, make_lack
from nexus_orch.ram.preload import Preload
from nexus_orch.ram.reserve import start_reservation
from nexus_orch.ram.weights import PreloadWork, find_preload_work
from nexus_orch.record.events import Preloaded, Reserved, Stopping
from nexus_orch.record.stop_request import read_stop_request
from nexus_orch.session.attempt import AttemptEnd, Scene
from nexus_orch.session.release import releasing
from nexus_orch.types import CheckpointFacts, Facts, RamProgress, Stage, Starting, Stopped, Verdict
from nexus_orch.view.words import render_bytes, render_duration, render_gigabytes_per_second

TICK_SECONDS = 0.1
TELL_SECONDS = 0.5
RESERVE_SECONDS = 60.0
"""A trial that takes longer is cut short: by then a lack would have shown, and the launch is waiting."""


def prepare_ram(scene: Scene, facts: Facts) -> AttemptEnd | None:
    """What the plan wants done in RAM before the launch; the attempt's end when somebody stopped it, else None.

    Raises PlanError (`host_oom`) when the RAM is not there, and InterruptedByEnvironment (`weights_missing`,
    `startup_stalled`) when weight files are not as they were planned or cannot be read.
    """
    stop: StopRequested | None = None
    if scene.plan.settings.get(RESERVE):
        stop = _reserve(scene, facts)
    checkpoint = facts.model.checkpoint
    if stop is None and reads_ahead(scene.plan) and facts.model.is_local and checkpoint is not None:
        stop = _preload(scene, checkpoint)
    return None if stop is None else _end(scene, stop)


def _reserve(scene: Scene, facts: Facts) -> StopRequested | None:
    """Touch in a child what the run will take, and give it back."""
    plan, started = scene.plan, time.monotonic()
    wanted = plan.host.required_bytes
    free = _read_free_bytes(scene)
    if wanted > free:
        raise _lacking(scene, started, 0, make_lack(wanted, plan.host.available_bytes, free))
    trial = start_reservation(wanted, facts.machine.host.cpu_count)
    try:
        meter = _Meter(scene, "reserving", wanted, lambda: trial.held_bytes)
        while not trial.is_over and meter.seconds < RESERVE_SECONDS:
            stop = meter.wait()
            if stop is not None:
                return stop
            free = _read_free_bytes(scene)
            if not trial.is_over and wanted - trial.held_bytes > free:
                raise _lacking(scene, started, trial.held_bytes, make_lack(wanted, plan.host.available_bytes, free))
    finally:
        trial.end()
    lack = None if meter.seconds >= RESERVE_SECONDS else find_lack(trial)
    if lack is not None:
        raise _lacking(scene, started, trial.held_bytes, lack)
    seconds = meter.finish()
    scene.writer.write(Reserved(time.time(), scene.attempt, wanted, trial.held_bytes, seconds))
    scene.view.message(describe_trial(wanted, trial.held_bytes, seconds))
    return None


def _preload(scene: Scene, checkpoint: CheckpointFacts) -> StopRequested | None:
    """Read what is not cached yet."""
    reading = find_preload_work(checkpoint)
    told = _make_preloaded(scene, reading)
    skipped = _why_skip(scene, reading, len(checkpoint.files))
    if skipped:
        scene.writer.write(replace(told, skipped=skipped))
        scene.view.message(f"not read ahead: {skipped}")
        return None
    preload = Preload(reading, int(scene.plan.settings[CHANNELS]))
    try:
        scene.view.message(_describe_reading(reading, len(checkpoint.files), preload.channels))
        meter = _Meter(scene, "preloading", reading.wanted_bytes, lambda: preload.done_bytes)
        while not preload.is_over:
            stop = meter.wait()
            if stop is not None:
                return stop
            if meter.idle_seconds > scene.limits.startup_stall_seconds:
                raise InterruptedByEnvironment(_make_stalled(checkpoint, meter.idle_seconds))
    finally:
        preload.cancel()
    if preload.problem is not None:
        raise InterruptedByEnvironment(preload.problem)
    seconds, done = meter.finish(), preload.done_bytes
    scene.writer.write(replace(told, read_bytes=done, seconds=seconds, channels=preload.channels))
    rate = render_gigabytes_per_second(done / max(seconds, 0.001))
    scene.view.message(f"{render_bytes(done)} read into RAM in {render_duration(seconds)}, {rate}")
    return None


class _Meter:
    """Waits, and tells the views and the record how far the work has come each time that it has."""

    def __init__(
        self, scene: Scene, step: Literal["reserving", "preloading"], total: int, read_done: Callable[[], int]
    ) -> None:
        self._scene = scene
        self._step = step
        self._total = total
        self._read_done = read_done
        self._started = self._moved = time.monotonic()
        self._done = 0
        self._tell(0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def idle_seconds(self) -> float:
        """Since the last byte."""
        return time.monotonic() - self._moved

    def wait(self) -> StopRequested | None:
        """One tick; the wish to stop, if there is one."""
        stop = _wait_for_stop(self._scene)
        done, now = self._read_done(), time.monotonic()
        if done != self._done:
            self._done, self._moved = done, now
        if now - self._told >= TELL_SECONDS:
            self._tell(done)
        return stop

    def finish(self) -> float:
        """Tell the last figure; the seconds that it took."""
        seconds = self.seconds
        self._tell(self._read_done())
        return seconds

    def _tell(self, done: int) -> None:
        self._told = time.monotonic()
        counted = RamProgress(time.time(), self._scene.attempt, self._step, done, self._total)
        progress = with_pace(counted, self.seconds)
        self._scene.view.observe(progress)
        _tell_verdict(self._scene, make_starting(progress))


def with_pace(progress: RamProgress, seconds: float) -> RamProgress:
    """The progress with its pace over all the time up to now, once there is one."""
    if not progress.done_bytes or seconds <= 0:
        return progress
    rate = progress.done_bytes / seconds
    remaining = (progress.total_bytes - progress.done_bytes) / rate
    return replace(progress, bytes_per_second=rate, remaining_seconds=remaining)


def make_starting(progress: RamProgress) -> Starting:
    """The same as a stage of the start, for the eyes."""
    detail = f"{render_bytes(progress.done_bytes)} of {render_bytes(progress.total_bytes)}"
    if progress.bytes_per_second is not None:
        left = render_duration(progress.remaining_seconds)
        detail += f", {render_gigabytes_per_second(progress.bytes_per_second)}, {left} left"
    return Starting(Stage(progress.step), progress.done_bytes / max(progress.total_bytes, 1), detail)


def _wait_for_stop(scene: Scene) -> StopRequested | None:
    asked = read_stop_request(scene.folder.stop_request)
    if asked is not None:
        return StopRequested(time.time(), asked.reason, ExitCode.GOOD)
    try:
        event = scene.events.get(timeout=TICK_SECONDS)
    except queue.Empty:
        return None
    return event if isinstance(event, StopRequested) else None


def _end(scene: Scene, stop: StopRequested) -> AttemptEnd:
    """The end of an attempt that never had an engine."""
    scene.view.message(f"stopping: {stop.reason}")
    scene.writer.write(Stopping(stop.time, stop.reason))
    verdict = Stopped(stop.reason)
    _tell_verdict(scene, verdict)
    with releasing((), scene.limits.stop_seconds, scene.hurry) as release:  # nothing was started: nothing to take down
        return AttemptEnd(verdict, RunState(verdict=verdict), stop, release, None)


def _tell_verdict(scene: Scene, verdict: Verdict) -> None:
    scene.writer.judge(time.time(), scene.attempt, verdict)
    scene.view.verdict(verdict)


def _read_free_bytes(scene: Scene) -> int:
    """RAM that is really there now, whatever a profile says of the machine, less what the plan leaves alone."""
    reserved = int((scene.plan.spec.hardware.host.reserved_gib or 0) * (1 << 30))
    return max(0, read_this_host().ram_available_bytes - reserved)


def _lacking(scene: Scene, started: float, held: int, problem: Problem) -> PlanError:
    seconds = time.monotonic() - started
    wanted = scene.plan.host.required_bytes
    scene.writer.write(Reserved(time.time(), scene.attempt, wanted, held, seconds, problem.message))
    return PlanError(problem)


def describe_trial(wanted: int, held: int, seconds: float) -> str:
    """How much of the wanted bytes was there, and that the rest was not tried when it was cut short."""
    took = f"{render_bytes(held)} of RAM were there when tried ({render_duration(seconds)})"
    if held >= wanted:
        return took
    return f"{took}; {render_bytes(wanted - held)} more were not tried, because that would have taken too long"


def _why_skip(scene: Scene, reading: PreloadWork, files: int) -> str:
    """Why nothing is read, "" when something is."""
    if not reading.pieces:
        which = "the weight file" if files == 1 else f"all {files} weight files"
        be = "is" if files == 1 else "are"
        return f"{which} ({render_bytes(reading.total_bytes)}) {be} in the page cache already"
    room = _read_free_bytes(scene) - scene.plan.host.required_bytes
    if reading.total_bytes > room:
        size = render_bytes(reading.total_bytes)
        return f"{size} of weights do not fit into the {render_bytes(max(room, 0))} of RAM that the run leaves now"
    return ""


def _make_preloaded(scene: Scene, reading: PreloadWork) -> Preloaded:
    """The event of a preload that has read nothing yet."""
    return Preloaded(
        time=time.time(),
        attempt=scene.attempt,
        total_bytes=reading.total_bytes,
        cached_bytes=reading.cached_bytes,
        read_bytes=0,
        seconds=0.0,
        channels=0,
        cached_files=reading.cached_files,
    )


def _describe_reading(reading: PreloadWork, files: int, channels: int) -> str:
    readers = "1 reader" if channels == 1 else f"{channels} readers"
    text = f"reading {render_bytes(reading.wanted_bytes)} of weights into RAM with {readers}"
    if reading.cached_files:
        shown = ", ".join(reading.cached_files[:3]) + (" ..." if len(reading.cached_files) > 3 else "")
        return f"{text}; {len(reading.cached_files)} of {files} files are cached already: {shown}"
    return text


def _make_stalled(checkpoint: CheckpointFacts, seconds: float) -> Problem:
    return Problem(
        f"nothing more came from the weight files for {seconds:.0f} s: {checkpoint.files[0]}",
        remedy="look after the disk or the network they lie on; limits.startup_stall_seconds is the patience",
        cause="startup_stalled",
    )
