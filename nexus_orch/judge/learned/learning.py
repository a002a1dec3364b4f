"""What a launch that became ready teaches all later plans: measurements, and the rule for when each of them holds.

`make_measurement` turns what an engine printed into numbers of one rank, with the conditions under which they were
measured. `choose_lessons` finds, for a plan that was drawn by estimates, the measured numbers that hold for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nexus_orch.judge.learned.case import (
    BATCH,
    CONTEXT,
    CPU_CACHE,
    KERNELS,
    PLACE,
    make_conditions,
    make_machine_key,
    make_model_key,
)
from nexus_orch.judge.log.balance import find_peak_bytes
from nexus_orch.types import COMPILED_PEAK, GIB, PASS_PEAK, Facts, GpuEstimate, Lesson, Plan

if TYPE_CHECKING:  # a plan needs what was learned, not the patterns of engine logs
    from nexus_orch.judge.log.measured import Measured

ROUNDING_BYTES = GIB // 200
"""vLLM prints GiB with two digits: the true value lies this close."""


@dataclass(frozen=True)
class LaunchMeasurement:
    """What one launch measured; bytes are of one rank (the fullest). None where the engine did not tell.

    `overhead_bytes` is what the budget lost beside weights, KV cache and reserved graphs: the activation peak and the
    memory outside PyTorch together, which most releases do not print apart. It comes from the balance, so that a plan
    that uses it arrives at the very KV cache that was measured, unless that start had found its model compiled: then
    at what the first one gets. Neither it nor `non_torch_bytes` holds the page tables of pinned host memory: these
    follow from what is offloaded.
    """

    date: str
    """ISO: 2026-11-23."""
    machine: str
    engine_version: str
    model: str
    conditions: Mapping[str, Any]
    runner: str | None = None
    """vLLM's model runner, V1 or V2, where the log says which; release, model and `options` decide it."""
    profiles_prompt: bool = False
    """V0: its profile holds one prompt of the whole context."""
    weights_bytes: int | None = None
    overhead_bytes: int | None = None
    non_torch_bytes: int | None = None
    cuda_graph_bytes: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_tokens: int | None = None

    @property
    def source(self) -> str:
        """In one sentence where the numbers come from."""
        return f"measured here on {self.date} with vLLM {self.engine_version}"

    def is_same_case(self, other: LaunchMeasurement) -> bool:
        """Whether a newer measurement of this case replaces the other one."""
        return _identity(self) == _identity(other) and self.conditions == other.conditions


@dataclass(frozen=True)
class ReuseRule:
    """When a measured quantity holds for another launch on the same machine with the same release and model."""

    quantity: str
    """The key of the lesson."""
    depends: tuple[str, ...]
    """The conditions that must be equal. What is not named may differ."""
    reason: str
    value: Callable[[LaunchMeasurement], int | None]
    only_cpu: bool = False


RULES = (
    ReuseRule(
        "measured.weights_bytes",
        PLACE,
        "the tensors of a rank: neither batch nor context changes them; what stays on the card of a rank that offloads "
        "is not all of them, and is not learned",
        lambda measurement: None if measurement.conditions.get("offload") != "none" else measurement.weights_bytes,
    ),
    ReuseRule(
        "measured.non_torch_bytes",
        (*PLACE, *KERNELS),
        "the CUDA context, NCCL and the workspaces of the kernels, which the type of the cache and offload choose",
        lambda measurement: measurement.non_torch_bytes,
    ),
    ReuseRule(
        PASS_PEAK,
        (*PLACE, *KERNELS, *BATCH),
        # seen with vLLM 0.25.1
        "one forward pass of the whole batch, or compiling it: another batch has another peak, and so has an eager "
        "start; what compiling took is planned again, though later starts need not do it; the context counts "
        "only where a whole prompt is profiled (V0): on an H100 with the V1 engine it changed nothing",
        lambda measurement: measurement.overhead_bytes,
    ),
    ReuseRule(
        "measured.cuda_graph_bytes",
        (*PLACE, *KERNELS, *BATCH),
        "one graph for each captured batch size, whose number follows from the batch",
        lambda measurement: measurement.cuda_graph_bytes,
    ),
    ReuseRule(
        "measured.kv_cache_tokens",
        (*PLACE, *KERNELS, *BATCH, *CPU_CACHE),
        "all that a CPU engine tells: its cache is as large as it was asked to be, and holds so many tokens",
        lambda measurement: measurement.kv_cache_tokens,
        only_cpu=True,
    ),
)
"""The one place that says what carries over. Every rule also wants the same machine, release and model."""

_ACTIVATION = next(rule for rule in RULES if rule.quantity == PASS_PEAK)


def make_measurement(plan: Plan, facts: Facts, measured: Measured, date: str) -> LaunchMeasurement | None:
    """What a launch by this plan, which became ready, has measured; None when the engine told nothing of use."""
    if not facts.machine.is_this_machine or not plan.per_gpu:
        return None
    if not facts.machine.gpus:
        numbers: dict[str, int | None] = {"kv_cache_bytes": _whole(measured.of_engine("kv_cache_bytes"))}
    else:
        numbers = _measure_card(plan, measured)
    numbers["kv_cache_tokens"] = measured.kv_cache_tokens
    if not any(numbers.values()):
        return None
    return LaunchMeasurement(
        date=date,
        machine=make_machine_key(facts.machine),
        engine_version=plan.engine_version,
        model=make_model_key(facts.model),
        conditions=make_conditions(plan),
        runner=measured.model_runner,
        profiles_prompt=measured.engine_generation == "V0",
        **numbers,
    )


def choose_lessons(measurements: Sequence[LaunchMeasurement], plan: Plan, facts: Facts) -> tuple[Lesson, ...]:
    """What was measured and holds for this plan; `measurements` are in the order of their times, the newest last.

    Numbers of the launch that is nearest to the plan go before those of newer ones. With the activation peak come, as
    settings, the batch and the mode that the plan has derived: the number holds for these only.
    """
    known = list(find_candidates(measurements, facts))
    known.reverse()
    wanted = make_conditions(plan)
    nearest = [found for found in known if _holds(_ACTIVATION, found, wanted)][:1]
    lessons: list[Lesson] = []
    for rule in RULES:
        if rule.only_cpu != (not facts.machine.gpus):
            continue
        found = next((found for found in (*nearest, *known) if _holds(rule, found, wanted)), None)
        if found is not None:
            lessons.append(Lesson(rule.quantity, rule.value(found), found.source))
    return tuple(_by_mode(_with_batching(_split_overhead(lessons, plan), plan), plan))


def find_candidates(measurements: Iterable[LaunchMeasurement], facts: Facts) -> Iterable[LaunchMeasurement]:
    """The measurements of this machine, release and model."""
    if not facts.machine.is_this_machine:
        return ()
    wanted = (make_machine_key(facts.machine), facts.engine.version, make_model_key(facts.model))
    return (found for found in measurements if _identity(found) == wanted)


def render_lessons(lessons: Sequence[Lesson]) -> tuple[str, ...]:
    """One sentence for each launch that taught quantities: what is not estimated any more."""
    told: dict[str, list[str]] = {}
    for lesson in lessons:
        section, _, name = lesson.key.partition(".")
        if section == "measured":
            told.setdefault(lesson.source, []).append(_render_quantity(name, int(lesson.value)))
    return tuple(f"learned: {', '.join(quantities)} ({source})" for source, quantities in told.items())


def _identity(measurement: LaunchMeasurement) -> tuple[str, str, str]:
    return measurement.machine, measurement.engine_version, measurement.model


def _holds(rule: ReuseRule, found: LaunchMeasurement, wanted: Mapping[str, Any]) -> bool:
    depends = (*rule.depends, CONTEXT) if rule is _ACTIVATION and found.profiles_prompt else rule.depends
    return rule.value(found) is not None and all(found.conditions.get(key) == wanted.get(key) for key in depends)


def _measure_card(plan: Plan, measured: Measured) -> dict[str, int | None]:
    """The numbers of the rank that has the least room for its KV cache: it decides for all."""
    card = min(plan.per_gpu, key=lambda card: card.kv_cache_bytes + card.headroom_bytes)
    weights = _whole(measured.of_engine("weights_bytes"))
    graphs = _whole(measured.of_engine("cuda_graph_estimate_bytes"))
    if graphs is None:
        graphs = _whole(measured.of_engine("cuda_graph_bytes"))
    graphs = None if graphs is None or card.cuda_graph_bytes == 0 else max(0, graphs)
    cache = _cache_bytes(plan, card, measured)
    divided = plan.settings.get("serve.pipeline_parallel", 1) != 1
    is_profiled = plan.spec.memory.kv_cache.size_gib is None and not divided and cache is not None
    kept = card.weights_bytes if card.offloaded_bytes or weights is None else weights
    overhead: int | None = (
        card.budget_bytes - kept - (cache or 0) - _reserved_bytes(card, graphs) - card.page_table_bytes
    )
    overhead = overhead if is_profiled and overhead is not None and overhead > 0 else None
    return {
        "weights_bytes": None if divided else weights,  # the stages of a pipeline differ: no number is all ranks'
        "overhead_bytes": overhead,
        "non_torch_bytes": _outside_bytes(card, measured.numbers(), overhead),
        "cuda_graph_bytes": graphs,
        "kv_cache_bytes": cache,
    }


def _outside_bytes(card: GpuEstimate, numbers: Mapping[str, float], overhead: int | None) -> int | None:
    """Bytes outside PyTorch: as printed, else what the printed peak leaves of the overhead, whose digits are exact.
    Page tables and what PyTorch keeps are planned for each run by themselves."""
    printed = numbers.get("non_torch_bytes")
    if printed is not None:
        return max(0, int(printed) - card.page_table_bytes - card.kept_bytes)
    peak = find_peak_bytes(numbers) if "consumed_bytes" in numbers else None
    return None if peak is None or overhead is None else max(0, overhead - int(peak) - card.kept_bytes)


def _cache_bytes(plan: Plan, card: GpuEstimate, measured: Measured) -> int | None:
    """The KV cache of the rank that has least: what was printed, made exact by the number of tokens.

    That number is the engine's, the size that of the rank which printed it: of several ranks mostly the first alone.
    """
    printed = _whole(measured.of_engine("kv_cache_bytes"))
    tokens = measured.kv_cache_tokens
    if not tokens or not plan.kv_cache_tokens or plan.spec.memory.kv_cache.max_blocks is not None:
        return printed
    counted = -(-tokens * card.kv_cache_bytes // plan.kv_cache_tokens)
    if printed is None or len(plan.per_gpu) > 1:
        return counted
    return min(max(counted, printed - ROUNDING_BYTES), printed + ROUNDING_BYTES)


def _reserved_bytes(card: GpuEstimate, graphs: int | None) -> int:
    """What else the engine keeps inside the budget: graphs and offload buffers, where this release reserves them.

    The plan knows: it is what the other parts of its breakdown leave. A measured size of the graphs replaces its own.
    """
    parts = card.weights_bytes + card.kv_cache_bytes + card.activation_bytes + card.non_torch_bytes
    reserved = card.budget_bytes - parts - card.headroom_bytes
    if graphs is not None and 0 < card.cuda_graph_bytes <= reserved:
        return reserved - card.cuda_graph_bytes + graphs
    return max(0, reserved)


def _split_overhead(lessons: Sequence[Lesson], plan: Plan) -> list[Lesson]:
    """The activation peak is what remains of the overhead: without what PyTorch keeps, and the measured memory outside
    PyTorch, else the plan's own estimate of it."""
    card = plan.per_gpu[0] if plan.per_gpu else None
    kept = 0 if card is None else card.kept_bytes
    planned = 0 if card is None else card.non_torch_bytes - card.page_table_bytes - kept
    outside = next((lesson.value for lesson in lessons if lesson.key == "measured.non_torch_bytes"), planned)
    return [
        Lesson(lesson.key, max(0, lesson.value - outside - kept), lesson.source)
        if lesson.key == _ACTIVATION.quantity
        else lesson
        for lesson in lessons
    ]


def _with_batching(lessons: Sequence[Lesson], plan: Plan) -> tuple[Lesson, ...]:
    activation = next((lesson for lesson in lessons if lesson.key == _ACTIVATION.quantity), None)
    if activation is None:
        return tuple(lessons)
    chosen = (plan.choice(key) for key in (*BATCH, "memory.enforce_eager"))
    settings = [
        Lesson(choice.key, choice.value, f"the memory that this takes was {activation.source}")
        for choice in chosen
        if choice is not None and choice.origin == "derived"
    ]
    return (*lessons, *settings)


def _by_mode(lessons: Iterable[Lesson], plan: Plan) -> Iterator[Lesson]:
    """The peak of a start that may have compiled the model has a name of its own: it says nothing of an eager one."""
    compiles = not plan.settings.get("memory.enforce_eager")
    for lesson in lessons:
        yield replace(lesson, key=COMPILED_PEAK) if compiles and lesson.key == _ACTIVATION.quantity else lesson


def _render_quantity(name: str, value: int) -> str:
    if name == "kv_cache_tokens":
        return f"{value:,} tokens of KV cache"
    words = {
        "weights_bytes": "weights",
        "activation_bytes": "activation peak",
        "compiled_activation_bytes": "activation peak",
        "non_torch_bytes": "memory outside PyTorch",
        "cuda_graph_bytes": "CUDA graphs",
    }
    return f"{words[name]} {value / GIB:.2f} GiB"


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
