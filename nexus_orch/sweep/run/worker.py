"""One launch of a sweep: the engine of a point is started, and stays up while the search wants something of it.

It may run in another process than the search, or on another machine: it reads the sweep's folder, and writes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import cast

from nexus_orch.errors import ExitCode, InterruptedByEnvironment, NexusError
from nexus_orch.plugin_manager import Plugins
from nexus_orch.session.prepare import Preparation
from nexus_orch.session.run import RunOutcome, prepare_run, run_session
from nexus_orch.session.task import Served
from nexus_orch.sweep.measure.of_run import environment_of, launcher_of, tokenizer_of
from nexus_orch.sweep.measure.slope import render_bound
from nexus_orch.sweep.measure.soak import Soaking, SoakOrder, SoakResult
from nexus_orch.sweep.measure.take import ClientName, take_measurement
from nexus_orch.sweep.measure.types import BenchResult, BenchTarget, MeasureCancelled, make_load
from nexus_orch.sweep.run.journal import SweepJournal
from nexus_orch.sweep.run.locks import holding_cards
from nexus_orch.sweep.run.quiet import INDENT, SweepView, SweepVoice
from nexus_orch.sweep.types import (
    INTERRUPTED,
    Begun,
    Ended,
    LaunchEnded,
    Measure,
    Outcome,
    SearchDecision,
    Soak,
    Soaked,
    Speed,
    Task,
)
from nexus_orch.types import MIB, RunSpec
from nexus_orch.view.words import render_count, render_duration, render_rate

Decide = Callable[[Task, Sequence[Outcome], int], SearchDecision]


@dataclass(frozen=True)
class LaunchOrder:
    """The launch with this number in a sweep's journal."""

    journal: SweepJournal
    number: int
    decide: Decide
    voice: SweepVoice


def run_launch(spec: RunSpec, order: LaunchOrder, plugins: Plugins) -> RunOutcome | None:
    """Start the engine of a launch and do with it what the search wants.

    None when it could not be launched, which is written down. Raises InterruptedByEnvironment when the disk is full.
    """
    journal, voice = order.journal, order.voice
    begun = [outcome for outcome in journal.outcomes() if isinstance(outcome, Begun)][order.number]
    launch = _Launch(spec, journal, journal.read().task, begun, order.decide, voice)
    with holding_cards(spec, lambda text: voice.say(INDENT + text)):
        return launch.run(plugins)


def as_launch(spec: RunSpec) -> RunSpec:
    """The run that is launched once, as it is planned: another attempt or an adjustment would be another point."""
    limits = replace(spec.limits, attempts=1, deaths=1)
    return replace(spec, limits=limits, memory=replace(spec.memory, dynamic="off"))


@dataclass
class _Launch:
    """One engine of the sweep."""

    spec: RunSpec
    journal: SweepJournal
    task: Task
    begun: Begun
    decide: Decide
    voice: SweepVoice
    is_started: bool = False
    soaking: Soaking | None = None
    """The soak that is on."""
    since: float = field(default_factory=time.monotonic)
    """When what is done now began."""

    @property
    def point(self) -> int:
        return self.begun.point

    def run(self, plugins: Plugins) -> RunOutcome | None:
        self.since = time.monotonic()
        try:
            prepared = prepare_run(as_launch(self.spec), plugins, uses_learned=False)
            outcome = run_session(prepared, plugins, SweepView(self.voice), lambda served: self._work(served, prepared))
        except InterruptedByEnvironment:
            raise
        except NexusError as error:
            if self.is_started:
                raise
            problem = error.problems[0]
            self._write_start(problem.cause or "refused", detail={"message": problem.message})
            self._say(f"not launched: {problem.message}")
            return None
        self._write_end(outcome)
        return outcome

    def _say(self, text: str) -> None:
        self.voice.say(INDENT + text)

    def _minutes(self) -> float:
        """Minutes since the last outcome; the next one begins now."""
        now = time.monotonic()
        minutes, self.since = (now - self.since) / 60, now
        return round(minutes, 4)

    def _write_start(self, cause: str | None, tokens: float | None = None, **more: object) -> None:
        self.is_started = True
        count = None if tokens is None else int(tokens)
        begun = self.begun
        started = LaunchEnded(begun.point, cause, count, self._minutes(), begun.is_confirming, begun.slot)
        self.journal.append(started, **more)

    def _work(self, served: Served, prepared: Preparation) -> None:
        """What the search wants of the engine that is ready, until it wants another one."""
        run_id, tokens = served.log.parent.name, served.measured.get("kv_cache_tokens")
        self._write_start(None, tokens, run_id=run_id)
        served.say(f"ready, KV cache {render_count(tokens)} tokens ({run_id})")
        target = make_target(served, prepared)
        while not served.cancel.is_set():
            step = self.decide(self.task, self.journal.outcomes(), self.begun.slot).step
            try:
                if isinstance(step, Measure) and step.point == self.point:
                    served.say(f"measure {step.concurrency} at once: {step.reason}")
                    self._measure(target, step.concurrency, served)
                elif isinstance(step, Soak) and step.point == self.point:
                    served.say(f"soak: {step.reason}")
                    self._soak(target, served, prepared)
                else:
                    return
            except MeasureCancelled:
                return  # the loop knows why; what it means is written behind it

    def _measure(self, target: BenchTarget, concurrency: int, served: Served) -> None:
        workload, asked = self.spec.workload, self.spec.sweep
        load = make_load(concurrency, workload.input_tokens, workload.output_tokens, asked.measure_requests)
        client = cast("ClientName", asked.client or "auto")
        taken = take_measurement(target, load, client=client, say=served.say)
        self.journal.append(self._make_speed(taken), detail=asdict(taken))
        served.say(describe_measurement(taken))

    def _make_speed(self, taken: BenchResult) -> Speed:
        figures = taken.figures
        return Speed(
            point=self.point,
            concurrency=taken.load.concurrency,
            tokens_per_second=figures.tokens_per_second,
            first_token_seconds=figures.first_token_seconds,
            inter_token_seconds=figures.inter_token_seconds,
            failed=figures.failed,
            requests=figures.requests,
            is_spoilt=taken.is_spoilt,
            minutes=self._minutes(),
            slot=self.begun.slot,
        )

    def _soak(self, target: BenchTarget, served: Served, prepared: Preparation) -> None:
        asked = self.spec.sweep
        order = SoakOrder(
            concurrency=self.task.goal.concurrency,
            max_model_len=prepared.plan.max_model_len,
            output_tokens=self.spec.workload.output_tokens,
            requests=asked.soak_requests,
            minutes=asked.soak_minutes,
            kv_cache_tokens=int(served.measured.get("kv_cache_tokens") or 0),
        )
        self.soaking = Soaking(target, order)
        result = self.soaking.run()
        self.soaking = None
        self.journal.append(self._make_soaked(result), detail=asdict(result))
        served.say(describe_soak(result))

    def _make_soaked(self, result: SoakResult) -> Soaked:
        slope = result.growth
        return Soaked(
            point=self.point,
            failed=result.failed,
            requests=result.requests,
            died_at_tokens=result.died_at_tokens,
            memory_slope_bytes_per_hour=None if slope is None else slope.per_hour,
            memory_slope_error=None if slope is None else slope.error,
            minutes=self._minutes(),
            slot=self.begun.slot,
        )

    def _write_end(self, outcome: RunOutcome) -> None:
        """What the end of the run means for the point, and for the sweep where somebody ended it."""
        was_stopped = bool(outcome.stopped)
        cause = INTERRUPTED if was_stopped else outcome.cause
        if not self.is_started:
            message = outcome.problems[0].message if outcome.problems else ""
            self._write_start(cause or "unknown", run_id=outcome.run_id, detail={"message": message})
            self._say(f"not ready: {(cause or 'unknown').replace('_', ' ')}")
        elif self.soaking is not None and not was_stopped and cause is not None:
            progress = self.soaking.progress
            self.journal.append(
                Soaked(
                    point=self.point,
                    failed=max(1, progress.failed),
                    requests=max(1, progress.requests),
                    died_at_tokens=progress.longest_tokens,
                    minutes=self._minutes(),
                    slot=self.begun.slot,
                ),
                run_id=outcome.run_id,
                detail={**asdict(progress), "cause": cause},
            )
            self._say(f"died in its soak at {progress.longest_tokens:,} accumulated tokens: {cause}")
        else:
            self.journal.append(Ended(self.point, cause, self.begun.slot), run_id=outcome.run_id)
        if was_stopped:
            code = outcome.exit_code if outcome.exit_code != ExitCode.GOOD else ExitCode.INTERRUPTED
            self.journal.append(stopped=outcome.stopped, exit_code=int(code))


def make_target(served: Served, prepared: Preparation) -> BenchTarget:
    """The engine that runs, for the clients that measure it."""
    command, engine = served.command, prepared.facts.engine
    return BenchTarget(
        server=served.server,
        engine=engine,
        launcher=launcher_of(command.argv),
        env=environment_of(command),
        tokenizer=tokenizer_of(command.argv),
        max_model_len=prepared.plan.max_model_len,
        log=served.log,
        gpus=served.gpus,
        family=served.family,
        stall_seconds=prepared.spec.limits.startup_stall_seconds,
        cancel=served.cancel,
    )


def describe_measurement(taken: BenchResult) -> str:
    """One line: the speeds, and what is wrong with them."""
    figures = taken.figures
    parts = [f"{render_rate(figures.tokens_per_second)} tokens/s"]
    if figures.first_token_seconds is not None:
        parts.append(f"first token {figures.first_token_seconds:.3g} s")
    if figures.failed:
        parts.append(f"{figures.failed} of {figures.requests} requests failed: {figures.error}")
    if taken.is_spoilt:
        parts.append(f"spoilt: {taken.spoilt[0]}")
    return ", ".join(parts)


def describe_soak(result: SoakResult) -> str:
    """One line: requests with their bound, the longest context, and how memory moved."""
    parts = [render_bound(result.failed, result.requests)]
    if result.error:
        parts.append(result.error)
    if result.died_at_tokens is not None:
        parts.append(f"the engine died at {result.died_at_tokens:,} accumulated tokens")
    else:
        parts.append(f"contexts to {result.longest_tokens:,} tokens in {render_duration(result.seconds)}")
    if result.slope is not None:
        per_hour, error = result.slope.per_hour / MIB, result.slope.error / MIB
        parts.append(f"memory of the {result.grew} {per_hour:+,.0f} ± {error:,.0f} MiB an hour")
    elif result.died_at_tokens is None:
        parts.append("too short to tell whether memory grows")
    if result.swap_growth_bytes:
        parts.append(f"swap grew by {result.swap_growth_bytes / MIB:,.0f} MiB: not stable")
    return "; ".join(parts)
