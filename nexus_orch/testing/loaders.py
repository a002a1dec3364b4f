"""The promises of a loader, tried out: for the tests of plugins that bring a strategy.

from nexus_orch.testing import check_loader

def test_my_strategy_keeps_its_promises():
    check_loader(MyLoader())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nexus_orch import shipped
from nexus_orch.adapt.generations import V0, V1, V2
from nexus_orch.choose import choose_adapter
from nexus_orch.contracts import CardPass, CardWork, Loader, Mechanism, Need, Placement, Refusal, Rule
from nexus_orch.errors import NexusError
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.profiles import read_machines, read_models
from nexus_orch.judge.log.measured import compile_pattern
from nexus_orch.plan.estimate.bus_rates import BusRates
from nexus_orch.plan.make import make_plan
from nexus_orch.releases.known import known_releases
from nexus_orch.types import GIB, Facts, MemorySpec, ModelSpec, Plan, RunSpec, WorkloadSpec

MODELS = ("qwen14b", "qwen3_30b_a3b", "qwen3_vl_8b", "qwen7b")
"""Shipped profiles: dense, with routed experts, with a vision tower, and one that fits on a card."""
MACHINES = ("rtx4090", "rtx3090x2")
PINS: Sequence[Mapping[str, Any]] = (
    {},
    {"workload.concurrency": 32},
    {"memory.cpu_offload_gib": 6.0},
    {"memory.cpu_offload_gib": 1000.0},
    {"memory.enforce_eager": False},
    {"model.max_model_len": 16384},
)
"""What a run pins beside the strategy."""
ADAPTERS = {adapter.name: adapter for adapter in (V0, V1, V2)}
RAM_BYTES = 256 * GIB


def check_loader(loader: Loader, *, releases: Sequence[str] | None = None, models: Sequence[str] = MODELS) -> None:
    """Raise AssertionError with every promise that the loader breaks.

    It is tried with each of the releases (the oldest, the newest and some between them by default) for these shipped
    profiles of models, on one card and on two.
    """
    broken = list(dict.fromkeys(find_broken_promises(loader, releases or _some_releases(), models)))
    assert not broken, f"the loader {loader.name} breaks {len(broken)} promises:\n" + "\n".join(broken)


def find_broken_promises(loader: Loader, releases: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    """Each broken promise in one line: release, model, machine, settings, and what is wrong."""
    yield from _judge_name(loader)
    for rule in loader.rules:
        yield from _judge_rule(loader, rule)
    folders = [shipped.conf_dir()]
    known_models, machines = read_models(folders), read_machines(folders)
    for release in releases:
        engine = make_assumed_engine(release)
        for name in models:
            for machine in (machines[machine] for machine in MACHINES):
                host = replace(machine.host, ram_total_bytes=RAM_BYTES, ram_available_bytes=RAM_BYTES)
                trial = _Trial(loader, Facts(known_models[name], replace(machine, host=host), engine))
                yield from (f"vLLM {release}, {name} on {machine.name}: {broken}" for broken in trial.run())


def _some_releases() -> list[str]:
    known = known_releases()
    return list(dict.fromkeys([*known[::5], known[-1]]))


def _judge_name(loader: Loader) -> Iterator[str]:
    if not loader.name.isidentifier():
        yield f"{loader.name!r} cannot be written as memory.strategy"
    if loader.profile is not None and not loader.profile.isidentifier():
        yield f"{loader.profile!r} is no name of a profile"


def _judge_rule(loader: Loader, rule: Rule) -> Iterator[str]:
    told = f"the rule on {' and '.join(rule.keys)}"
    plain = RunSpec("run", memory=MemorySpec(strategy=loader.name))
    for key in rule.keys:
        try:
            plain.get(key)
        except AttributeError:
            yield f"{told}: there is no setting {key}"
    if not rule.message or not rule.remedy:
        yield f"{told} has no {'remedy' if rule.message else 'message'}"
    if rule.broken(plain):
        yield f"{told} is broken by a run that pins nothing but the strategy"


@dataclass
class _Recorder(Loader):
    """The loader, with what it was asked for and what it offered."""

    inner: Loader
    name: str
    broken: list[str] = field(default_factory=list)
    mechanisms: list[Mechanism] = field(default_factory=list)

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        first, second = (self.inner.supports(spec, facts) for _ in range(2))
        if first != second:
            self.broken.append("supports gives two answers to one question")
        if first is not None and not (first.reason and first.remedy):
            self.broken.append("a refusal has no reason or no remedy")
        return first

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        offered = self.inner.offer(needs, spec, facts)
        found = [placement.mechanism for placement in offered if placement.mechanism is not None]
        self.mechanisms += [mechanism for mechanism in found if mechanism not in self.mechanisms]
        if self.inner.offer(needs, spec, facts) != offered:
            self.broken.append("offer gives two answers to one question")
        for placement in offered:
            self.broken += _judge_placement(placement, needs, spec)
        return offered


def _judge_placement(placement: Placement, needs: Sequence[Need], spec: RunSpec) -> Iterator[str]:
    """Sizes, choices and problems of one placement."""
    if any(len(held) != len(needs) for held in (placement.offloaded_bytes, placement.static_pool_bytes)):
        return  # the planner says so
    for need, moved in zip(needs, placement.offloaded_bytes, strict=True):
        most = sum(map(sum, need.parameter_bytes)) + sum(need.tower_bytes)
        if not 0 <= moved <= most:
            yield f"{moved} bytes of a card are offloaded, which has {most} that can be"
    if placement.host_bytes < sum(placement.offloaded_bytes):
        yield "host_bytes is less than what is offloaded"
    if any(placement.offloaded_bytes) and placement.mechanism is None:
        yield "weights are offloaded without a mechanism: nothing is known of their speed and nothing is proved"
    yield from _judge_choices(placement, spec)
    for problem in placement.problems:
        if not problem.key or not problem.remedy:
            yield f"the problem '{problem.message}' has no {'remedy' if problem.key else 'key'}"


def _judge_choices(placement: Placement, spec: RunSpec) -> Iterator[str]:
    for choice in placement.choices:
        if not choice.reason:
            yield f"the choice of {choice.key} has no reason"
        pinned = None if choice.key.startswith("engine.env.") else _pinned(spec, choice.key)
        if pinned is not None and (choice.origin != "pinned" or choice.value != pinned):
            yield f"the pinned {choice.key}={pinned} becomes {choice.value} ({choice.origin})"


def _pinned(spec: RunSpec, key: str) -> Any:
    """The value that the user set; None too for settings that only plans have."""
    try:
        return spec.get(key)
    except AttributeError:
        return None


@dataclass(frozen=True)
class _Trial:
    """One loader for one model, machine and release."""

    loader: Loader
    facts: Facts

    def run(self) -> Iterator[str]:
        for pins in PINS:
            told = ", ".join(f"{key}={value}" for key, value in pins.items()) or "nothing pinned"
            spec = RunSpec("run", model=ModelSpec("m"), workload=WorkloadSpec(1, 1000, 200))
            for key, value in {"memory.strategy": self.loader.name, **pins}.items():
                spec = spec.with_value(key, value)
            if not any(rule.broken(spec) for rule in self.loader.rules):
                yield from (f"{told}: {broken}" for broken in self._try(spec))

    def _try(self, spec: RunSpec) -> Iterator[str]:
        recorder, told = _Recorder(self.loader, self.loader.name), []
        try:
            first, second = (make_plan(spec, self.facts, {recorder.name: recorder}) for _ in range(2))
        except NexusError as error:
            told = [problem.message for problem in error.problems]
        yield from dict.fromkeys((*recorder.broken, *told))
        if told:
            return
        if first != second:
            yield "the same run is planned in two ways"
        if first.fits:
            yield from self._judge_words(first)
        if first.proof is not None:
            yield from _judge_proof(first)
        for mechanism in recorder.mechanisms:
            yield from (f"{mechanism.proof.mechanism}: {broken}" for broken in judge_mechanism(mechanism))

    def _judge_words(self, plan: Plan) -> Iterator[str]:
        """A plan that fits is said to the release as it is: nothing of it is refused or left out."""
        rendering = choose_adapter(ADAPTERS, self.facts.engine.version).render(plan, self.facts.engine)
        yield from (f"the release refuses {p.key}: {p.message}" for p in rendering.problems)
        for choice in rendering.choices:
            if choice.value is None and plan.choice(choice.key) is not None:
                yield f"the release leaves {choice.key} out: {choice.reason}"


def _judge_proof(plan: Plan) -> Iterator[str]:
    proof = plan.proof
    assert proof is not None
    if proof.asked is not None and plan.settings.get(proof.asked) is None:
        yield f"the proof compares with {proof.asked}, which the plan does not set"
    for key, _ in proof.instead:
        try:
            plan.spec.get(key)
        except AttributeError:
            yield f"the proof names {key} as another way, and there is no such setting"


def judge_mechanism(mechanism: Mechanism) -> Iterator[str]:
    """What is wrong with a mechanism's figures and words, whatever loader offers it."""
    if not mechanism.proof.mechanism or not mechanism.way:
        yield "it has no name, or no words for what it does"
    try:
        for pattern in mechanism.proof.patterns:
            compile_pattern(pattern)
    except NexusError as error:
        yield str(error)
    layers = (GIB // 8, 0) * 24
    one = CardPass(1, sum(layers), 0, 0, 1.0, layers, BusRates(25e9, 20e9))
    work = CardWork(False, 20 * GIB, GIB, GIB, 900e9, 1e-4, 0.0, 0.0, 0.0, 1e-5)
    moved, seconds, bus = mechanism.moved_bytes(one), mechanism.pass_seconds(one, work), mechanism.bus_seconds(one)
    if not 0 <= moved <= one.offloaded_bytes:
        yield f"moved_bytes is {moved} of {one.offloaded_bytes} bytes that are offloaded"
    if seconds is None or bus is None:
        yield "nothing is said of the speed although the bus is known"
        return
    if seconds < max(bus if moved else 0.0, 0.0) * 0.999 or seconds < work.memory_seconds(moved) * 0.999:
        yield "a pass takes less than the bus alone, or than the card's memory alone"
    unknown = replace(one, bus=BusRates(None, None))
    if mechanism.pass_seconds(unknown, work) is not None or mechanism.bus_seconds(unknown) is not None:
        yield "a speed is said although nothing is known of the bus"
    faster = mechanism.pass_seconds(replace(one, bus=BusRates(50e9, 40e9)), work)
    longer = mechanism.pass_seconds(replace(one, tokens=4096), replace(work, arithmetic_seconds=5.0))
    if faster is None or faster > seconds * 1.001:
        yield "a faster bus makes it slower"
    if longer is None or longer < seconds * 0.999:
        yield "a pass of more tokens takes less time"
