"""While a server serves: proof when it is ready, advice when memory is short, a drained end for a better plan.

"Drained" means that running and waiting were seen at 0, or that `limits.drain_seconds` have passed. Without a front
door nothing keeps new requests away meanwhile, and clients cannot connect during the restart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.serving.pressure import Pressure, find_blindness, find_pressure, watch
from nexus_orch.judge.start.proof import SINGLE_SPEED, Comparison, make_proof
from nexus_orch.judge.start.verdict import RunState
from nexus_orch.record.events import Adjusting, Advised, Blinded, Proved
from nexus_orch.record.writer import RunWriter
from nexus_orch.session.door import RunDoor
from nexus_orch.types import Finding, LimitsSpec, Metric, Observation, Plan, PressureKind
from nexus_orch.view.run_view import RunView
from nexus_orch.view.words import render_duration

_RESOURCE: dict[PressureKind, str] = {
    "preemptions": "KV cache",
    "kv_cache_full": "KV cache",
    "bus_bound": "bus",
    "ram_low": "RAM",
    "swapping": "RAM",
}
"""One lack may show in two ways; it is told once."""

Advise = Callable[[Finding], Advice]


class Listeners(Protocol):
    """Who is told of what happens: the record, the user and the front door."""

    @property
    def writer(self) -> RunWriter: ...

    @property
    def view(self) -> RunView: ...

    @property
    def door(self) -> RunDoor: ...


@dataclass(frozen=True)
class _Drain:
    """Waiting for requests to end."""

    advice: Advice
    since: float
    deadline: float


class Watchman:
    """What is made of one attempt while it serves. For the loop's thread; its clock is the observations' time."""

    def __init__(self, plan: Plan, limits: LimitsSpec, told: Listeners, attempt: int, advise: Advise | None) -> None:
        """`advise` None means that nothing is looked for (memory.dynamic=off)."""
        self._plan = plan
        self._limits = limits
        self._writer = told.writer
        self._view = told.view
        self._door = told.door
        self._attempt = attempt
        self._advise = advise
        self._pressure = Pressure(limits.pressure_seconds, _step_seconds(plan))
        self._proof: tuple[Comparison, ...] = ()
        self._quiet_until: dict[str, float] = {}
        """By resource, when its lack is looked at again; never, once there was advice on it."""
        self._drain: _Drain | None = None
        self._is_drained = False
        self._is_blind_told = False
        self._ready_since: float | None = None

    @property
    def adjustment(self) -> Advice | None:
        """The advice for which the server is now to be stopped; None while it is to go on."""
        return self._drain.advice if self._drain is not None and self._is_drained else None

    def observe(self, observation: Observation, state: RunState) -> None:
        """After an observation of a server that has been ready."""
        if observation.attempt != self._attempt:
            return
        now = observation.time
        if self._ready_since is None:
            self._ready_since = now
        self._prove(now, state)
        if self._advise is None:
            return
        self._pressure = watch(self._pressure, observation)
        self._tell_blindness(now)
        if self._drain is not None:
            self._look_at_drain(self._drain, observation)
            return
        for finding in find_pressure(self._pressure):
            if now >= self._quiet_until.get(_RESOURCE[finding.kind], now) and self._drain is None:
                self._consider(finding, self._advise(finding), now, state)

    def _tell_blindness(self, now: float) -> None:
        """Tell once that the watch sees nothing, lest its silence be taken for a server that lacks nothing."""
        reason = None if self._is_blind_told else find_blindness(self._pressure, now)
        if reason is None:
            return
        self._is_blind_told = True
        self._writer.write(Blinded(now, self._attempt, reason))
        self._view.message(f"a full KV cache or bus would not be noticed: {reason}; RAM is watched all the same")

    def _prove(self, now: float, state: RunState) -> None:
        """At first, and once more when the speed of one request was measured."""
        is_first = not self._proof
        has_speed = any(line.measured for line in self._proof if line.unit == "tokens/s")
        if not is_first and (has_speed or SINGLE_SPEED not in state.numbers):
            return
        proof = make_proof(self._plan, state.numbers, state.footprint)
        if not proof or proof == self._proof:
            return
        self._proof = proof
        self._writer.write(Proved(now, self._attempt, proof))
        self._view.proof(proof if is_first else tuple(line for line in proof if line.unit == "tokens/s"))

    def _consider(self, finding: Finding, advice: Advice, now: float, state: RunState) -> None:
        """Tell the advice once. When nothing would help, that is told once too, and looked at again a window later:
        by then the load may be one that another plan serves better."""
        resource = _RESOURCE[finding.kind]
        is_first = resource not in self._quiet_until
        self._quiet_until[resource] = math.inf if advice.change else now + self._limits.pressure_seconds
        if is_first or advice.change:
            self._act(advice, now, state)

    def _act(self, advice: Advice, now: float, state: RunState) -> None:
        self._writer.write(Advised(now, self._attempt, advice))
        self._view.advice(advice)
        if advice.lesson is None:
            return
        requests = count_requests(state.metric)
        self._drain = _Drain(advice, now, now + self._limits.drain_seconds)
        self._writer.write(Adjusting(now, self._attempt, advice.lesson, requests, self._limits.drain_seconds))
        self._door.drain(f"the server is being restarted: {advice.change}", self._limits.drain_seconds)
        longest = render_duration(self._limits.drain_seconds)
        meanwhile = "clients cannot connect" if self._door.port is None else "clients wait"
        self._view.message(
            f"restarting with {advice.change} when the {requests} requests have ended, after {longest} at the latest; "
            f"then {meanwhile} for about {render_duration(self._startup_seconds(state))}"
        )

    def _startup_seconds(self, state: RunState) -> float | None:
        return None if state.started is None or self._ready_since is None else self._ready_since - state.started

    def _look_at_drain(self, drain: _Drain, observation: Observation) -> None:
        if isinstance(observation, Metric) and observation.time > drain.since and count_requests(observation) == 0:
            self._is_drained = True
        elif observation.time >= drain.deadline and not self._is_drained:
            self._is_drained = True
            left = count_requests(self._pressure.metric)
            waited = render_duration(self._limits.drain_seconds)
            self._view.message(f"{left} requests have not ended in {waited} (limits.drain_seconds) and are cut off")


def count_requests(metric: Metric | None) -> int:
    """Requests that were running or waiting at the last reading."""
    return 0 if metric is None else int(metric.values.get("running", 0) + metric.values.get("waiting", 0))


def _step_seconds(plan: Plan) -> float | None:
    """How long one decode step takes when weights come over the bus; None for a plan without offload or speed."""
    speed = plan.prediction.decode_tokens_per_second
    offloads = any(card.offloaded_bytes for card in plan.per_gpu)
    return 1 / speed if offloads and speed else None
