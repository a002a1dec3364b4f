"""Calibration: a few ordinary launches, each with what was predicted before it, measured by it and predicted after it.

The result is one JSON document, which can be checked in: it names the cards and the engine, but neither host nor user.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nexus_orch import __version__
from nexus_orch.errors import ExitCode, NexusError, PlanError
from nexus_orch.judge.learned.case import make_machine_key
from nexus_orch.judge.learned.learning import make_measurement
from nexus_orch.judge.log.measured import Measured, RankMeasured
from nexus_orch.plugin_manager import Plugins
from nexus_orch.session.prepare import Preparation
from nexus_orch.session.run import RunOutcome, prepare_run, run_session
from nexus_orch.sweep.points import SWEEP_QUESTION
from nexus_orch.types import RunSpec
from nexus_orch.view.run_view import RunView

CPU_VARIATIONS = (("memory.kv_cache.size_gib=1",), ("memory.kv_cache.size_gib=2",))
GPU_VARIATIONS = ((), ("memory.enforce_eager=true",), ("serve.max_num_batched_tokens=4096",))
"""Without and with CUDA graphs, and another activation peak: what differs most between releases and models."""

_RANK_NUMBERS = ("weights_bytes", "kv_cache_bytes", "activation_bytes", "non_torch_bytes", "cuda_graph_bytes")


@dataclass(frozen=True)
class Launch:
    """One launch of a calibration. The three mappings are by quantity, in bytes, tokens and tokens per second.

    `overhead_bytes` is the activation peak and the memory outside PyTorch together, which can always be told from the
    balance; `learned` is predicted by the plan that knows this launch.
    """

    model: str
    overrides: tuple[str, ...]
    outcome: Literal["measured", "does_not_fit", "bad_config", "failed", "interrupted"]
    exit_code: int
    seconds: float
    machine: str = ""
    engine: str = ""
    run_id: str | None = None
    cause: str | None = None
    message: str = ""
    predicted: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    learned: Mapping[str, float] = field(default_factory=dict)


def choose_variations(spec: RunSpec, *, is_cpu: bool) -> tuple[tuple[str, ...], ...]:
    """What differs between the launches; a setting that the user pinned himself is not varied."""
    found = [
        variation
        for variation in (CPU_VARIATIONS if is_cpu else GPU_VARIATIONS)
        if not any(spec.get(word.partition("=")[0]) is not None for word in variation)
    ]
    return tuple(found) or ((),)


def calibrate(spec: RunSpec, overrides: Sequence[str], plugins: Plugins, view: RunView) -> Launch:
    """Launch once, by estimates alone, and compare. Whatever goes wrong is told by the launch that it returns."""
    started = time.monotonic()
    spec = _as_launch(spec)
    try:
        before = prepare_run(spec, plugins, uses_learned=False)
    except NexusError as error:
        view.close()
        return _make_refused(spec, overrides, error)
    outcome = run_session(before, plugins, view)
    launch = make_launch(spec, overrides, before, outcome, time.monotonic() - started)
    if launch.outcome != "measured":
        return launch
    try:
        return replace(launch, learned=_predict(prepare_run(spec, plugins)))
    except NexusError as error:  # the launch stands; the machine has changed since
        return replace(launch, message=str(error).splitlines()[0])


def make_document(launches: Sequence[Launch]) -> dict[str, Any]:
    """The calibration as one JSON object; each launch says how far prediction and measurement are apart."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "nexus_version": __version__,
        "launches": [{**asdict(launch), "errors": _make_errors(launch)} for launch in launches],
    }


def _make_errors(launch: Launch) -> dict[str, dict[str, float]]:
    """By quantity: predicted less measured, absolute and as a fraction of what was measured."""
    both = [name for name in launch.predicted if name in launch.measured]
    errors: dict[str, dict[str, float]] = {}
    for name in both:
        error = launch.predicted[name] - launch.measured[name]
        errors[name] = {"absolute": round(error, 3)}
        if launch.measured[name]:
            errors[name]["fraction"] = round(error / launch.measured[name], 5)
    return errors


def _as_launch(spec: RunSpec) -> RunSpec:
    """The run that ends by itself, and is not mended when it fails: another attempt would be another launch."""
    probe = replace(spec.probe, then="stop", question=spec.probe.question or SWEEP_QUESTION)
    return replace(spec, probe=probe, limits=replace(spec.limits, attempts=1))


def _make_refused(spec: RunSpec, overrides: Sequence[str], error: NexusError) -> Launch:
    first = error.problems[0]
    return Launch(
        model=spec.model.name,
        overrides=tuple(overrides),
        outcome="does_not_fit" if isinstance(error, PlanError) else "bad_config",
        exit_code=int(error.exit_code),
        seconds=0.0,
        cause=first.cause,
        message=first.message,
    )


def make_launch(
    spec: RunSpec, overrides: Sequence[str], before: Preparation, outcome: RunOutcome, seconds: float
) -> Launch:
    """What a launch that was prepared as `before` and ended so has shown."""
    is_good = outcome.exit_code == ExitCode.GOOD
    engine = before.facts.engine
    return Launch(
        model=spec.model.name,
        overrides=tuple(overrides),
        outcome="measured" if is_good else "interrupted" if outcome.cause is None else "failed",
        exit_code=int(outcome.exit_code),
        seconds=round(seconds, 1),
        machine=make_machine_key(before.facts.machine),
        engine=f"vLLM {engine.version} ({engine.device})",
        run_id=outcome.run_id,
        cause=outcome.cause,
        message=outcome.problems[0].message.splitlines()[0] if outcome.problems else "",
        predicted=_predict(before),
        measured=_measure(before, outcome.measured),
    )


def _predict(preparation: Preparation) -> dict[str, float]:
    """What a plan says of the rank that has the least room for its cache."""
    plan, is_cpu = preparation.plan, not preparation.facts.machine.gpus
    card = min(plan.per_gpu, key=lambda card: card.kv_cache_bytes + card.headroom_bytes)
    found: dict[str, float] = {"weights_bytes": card.weights_bytes, "kv_cache_bytes": card.kv_cache_bytes}
    if not is_cpu:
        if plan.spec.memory.kv_cache.size_gib is None:
            found["kv_cache_bytes"] += card.headroom_bytes
        found["overhead_bytes"] = card.activation_bytes + card.non_torch_bytes - card.page_table_bytes
        found["activation_bytes"] = card.activation_bytes
        found["non_torch_bytes"] = card.non_torch_bytes
        found["cuda_graph_bytes"] = card.cuda_graph_bytes
    found["kv_cache_tokens"] = plan.kv_cache_tokens
    if plan.prediction.decode_tokens_per_second is not None:
        found["tokens_per_second"] = plan.prediction.decode_tokens_per_second
    return found


def _measure(preparation: Preparation, numbers: Mapping[str, float]) -> dict[str, float]:
    """What the engine told, and the overhead that follows from it."""
    found = {
        name: numbers[name] for name in (*_RANK_NUMBERS, "kv_cache_tokens", "tokens_per_second") if name in numbers
    }
    rank = RankMeasured(**{name: int(numbers[name]) for name in _RANK_NUMBERS if name in numbers})
    tokens = numbers.get("kv_cache_tokens")
    measured = Measured(kv_cache_tokens=None if tokens is None else int(tokens), ranks={"rank": rank})
    measurement = make_measurement(preparation.plan, preparation.facts, measured, date="")
    if measurement is not None and measurement.overhead_bytes is not None:
        found["overhead_bytes"] = measurement.overhead_bytes
    return found
