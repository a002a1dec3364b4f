"""What a failed start teaches the next plan. Nothing is guessed: a lesson is a number that the engine printed, or a way
that was seen not to work.

No lesson means that another start would fail the same way. A pinned value is never unlearned: then the run fails with
its cause, and the remedy is the user's to take. A way is left once at most, and no lesson is taught twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nexus_orch.judge.learned.learning import choose_lessons, make_measurement
from nexus_orch.judge.log.measured import Measured
from nexus_orch.types import GIB, MIB, Facts, Failed, GpuEstimate, Lesson, Plan

UTILIZATION = "memory.gpu_memory_utilization"
OOM_MARGIN_BYTES = 256 * MIB
"""Left free beside what was missing: the allocator takes memory in larger pieces than it is asked for."""

_MOVED: Mapping[str, tuple[str, ...]] = {
    "port_in_use": ("serve.port",),
    "context_too_long": ("model.max_model_len",),
    "memory_busy": (UTILIZATION,),
    "graph_capture_oom": ("memory.enforce_eager", UTILIZATION),
    "sampler_oom": (UTILIZATION, "serve.max_num_seqs"),
    "runtime_oom": (UTILIZATION,),
}
"""By cause, the settings that a lesson moves. Of offloading the loader names them (`Proof.instead`)."""

_SAMPLER_REQUESTS = re.compile(r"warming up sampler with (\d+) dummy requests")
_GIVEN_BACK = "Error in memory profiling"
_NEEDS_UVA = "UVA is not available"
"""The V2 model runner itself says this: no way of offloading goes without."""


def is_passing(failed: Failed) -> bool:
    """Whether the same start may go well now. vLLM gives up when others give memory back while it measures (assertion
    in `gpu_worker.py: determine_available_memory`; seen on an H200 with 0.25.1): after that there is more of it."""
    return failed.cause == "memory_busy" and any(_GIVEN_BACK in line for line in failed.evidence)


def learn(
    failed: Failed, measured: Measured, plan: Plan, facts: Facts, known: Sequence[Lesson] = ()
) -> tuple[Lesson, ...]:
    """The lessons of one failed start under this plan; empty when nothing can be learned.

    `known` are the lessons that this plan was made with.
    """
    taught = {(lesson.key, lesson.value) for lesson in known}
    lessons = _learn(failed, measured, plan, facts, {lesson.key for lesson in known})
    return tuple(lesson for lesson in lessons if (lesson.key, lesson.value) not in taught)


@dataclass(frozen=True)
class Pin:
    """A pinned setting that alone kept a failure from teaching something, and what it would have taught."""

    key: str
    value: object
    origin: str | None
    lesson: Lesson


def find_pin(failed: Failed, measured: Measured, plan: Plan, facts: Facts, known: Sequence[Lesson] = ()) -> Pin | None:
    """The pin that stands in the way of another start; None where nothing would be learned without it either. Asked
    only where nothing was learned with it."""
    instead = () if plan.proof is None else tuple(key for key, _ in plan.proof.instead)
    for key in (*_MOVED.get(failed.cause, ()), *instead):
        if _is_open(plan, key):
            continue
        opened = replace(plan, spec=plan.spec.with_value(key, None))
        lessons = learn(failed, measured, opened, facts, known)
        if lessons:
            return Pin(key, plan.spec.get(key), plan.spec.origin(key), lessons[0])
    return None


def _learn(failed: Failed, measured: Measured, plan: Plan, facts: Facts, known_keys: set[str]) -> tuple[Lesson, ...]:
    lessons: tuple[Lesson, ...] = ()
    match failed.cause:
        case "port_in_use" if _is_open(plan, "serve.port"):
            port = plan.settings.get("serve.port")
            lessons = (Lesson("machine.taken_port", port, f"port {port} was taken before the engine listened on it"),)
        case "context_too_long" if _is_open(plan, "model.max_model_len"):
            lessons = _shorter_context(measured, plan)
        case "memory_busy" if _is_open(plan, UTILIZATION):
            lessons = _lower_utilization(measured, plan)
        case "offload_ignored" | "offload_unsupported" | "pinned_memory_unavailable":
            lessons = _other_way(failed, plan, known_keys)
        case "weights_oom":
            lessons = _heavier_weights(measured, plan)
        case "profile_oom":
            lessons = _larger_activations(measured, plan)
        case "no_kv_cache_memory":
            lessons = _measured_balance(measured, plan, facts)
        case "graph_capture_oom" if _is_open(plan, "memory.enforce_eager"):
            lessons = (Lesson("memory.enforce_eager", True, "the CUDA graphs did not fit beside the KV cache"),)
        case "graph_capture_oom" | "sampler_oom" | "runtime_oom":
            lessons = _missing_memory(measured, plan) or _fewer_requests(failed, plan, known_keys)
    return lessons


def _is_open(plan: Plan, key: str) -> bool:
    return plan.spec.get(key) in (None, "auto")


def _shorter_context(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """vLLM tells the longest context that would have fitted."""
    possible = measured.max_model_len_possible
    if possible is None or possible <= 0 or possible >= plan.max_model_len:
        return ()
    return (Lesson("model.max_model_len", possible, f"the engine measured room for {possible:,} tokens of context"),)


def _lower_utilization(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """The share that is free on the fullest card, rounded down to whole percents."""
    free, total = measured.of_ranks("memory_free_bytes"), measured.of_ranks("memory_total_bytes")
    shares = [have / whole for have, whole in zip(free, total, strict=False) if whole]
    if not shares:
        return ()
    least = min(free) / GIB
    return _utilization(min(shares), plan, f"the engine found only {least:.2f} GiB free")


def _utilization(share: float, plan: Plan, source: str) -> tuple[Lesson, ...]:
    """A share of memory below the planned one, in whole percents."""
    utilization = math.floor(share * 100) / 100
    if not 0 < utilization < float(plan.settings.get(UTILIZATION) or 1.0):
        return ()
    return (Lesson(UTILIZATION, utilization, source),)


def _other_way(failed: Failed, plan: Plan, known_keys: set[str]) -> tuple[Lesson, ...]:
    """The way of offloading that the mechanism names instead of itself, once. Where a release is known to ignore both
    of vLLM's with its second model runner, the adapter has asked for the first one before the launch."""
    proof = plan.proof
    needs_uva = any(_NEEDS_UVA in line for line in failed.evidence)
    if proof is None or needs_uva or plan.spec.memory.kv_offload_gib:
        return ()
    if any(key in known_keys or not _is_open(plan, key) for key, _ in proof.instead):
        return ()
    said = {
        "offload_ignored": "the engine did not offload what was planned",
        "offload_unsupported": "the engine refused to offload",
        "pinned_memory_unavailable": "the RAM could not be pinned",
    }[failed.cause]
    return tuple(Lesson(key, value, f"{said} with {proof.mechanism}") for key, value in proof.instead)


def _heavier_weights(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """At the failure the process held so much and wanted more: the weights on a card are at least that."""
    card, needed = _fullest(plan), _needed_bytes(measured)
    if card is None or needed is None:
        return ()
    least = needed - card.non_torch_bytes
    if least <= card.weights_bytes:
        return ()
    source = f"loading wanted {least / GIB:.2f} GiB on the card, and {card.weights_bytes / GIB:.2f} GiB were planned"
    return (Lesson("measured.weights_bytes", least + card.offloaded_bytes, source),)


def _larger_activations(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """What the trial forward pass held and wanted, less the weights that were loaded: its peak is at least that."""
    card, needed, weights = _fullest(plan), _needed_bytes(measured), measured.of_engine("weights_bytes")
    if card is None or needed is None or weights is None:
        return ()
    least = int(needed - weights) - card.non_torch_bytes
    if least <= card.activation_bytes:
        return ()
    source = f"the trial forward pass wanted at least {least / GIB:.2f} GiB"
    return (Lesson("measured.activation_bytes", least, source),)


def _measured_balance(measured: Measured, plan: Plan, facts: Facts) -> tuple[Lesson, ...]:
    """Weights and activations as the engine printed them before it found no room: with them the plan offloads enough,
    or says what is missing."""
    source = "the start that failed before"
    measurement = make_measurement(plan, facts, measured, source)
    lessons = () if measurement is None else choose_lessons((measurement,), plan, facts)
    return tuple(
        Lesson(lesson.key, lesson.value, "measured by the start that failed before")
        for lesson in lessons
        if lesson.key.startswith("measured.")
    )


def _missing_memory(measured: Measured, plan: Plan) -> tuple[Lesson, ...]:
    """A smaller share of the card, by what was missing when memory ran out."""
    wanted, free = measured.of_engine("oom_wanted_bytes"), measured.of_engine("oom_free_bytes")
    card = _fullest(plan)
    if wanted is None or free is None or card is None or not _is_open(plan, UTILIZATION):
        return ()
    missing = wanted - free + OOM_MARGIN_BYTES
    planned = float(plan.settings.get(UTILIZATION) or 1.0)
    source = f"{wanted / GIB:.2f} GiB more were wanted, and {free / GIB:.2f} GiB of the card were free"
    return _utilization(planned - missing / card.total_bytes, plan, source)


def _fewer_requests(failed: Failed, plan: Plan, known_keys: set[str]) -> tuple[Lesson, ...]:
    """Half of the requests with which the sampler did not fit, not below what the workload needs; once."""
    key = "serve.max_num_seqs"
    told = next((found for line in failed.evidence if (found := _SAMPLER_REQUESTS.search(line))), None)
    if told is None or key in known_keys or not _is_open(plan, key):
        return ()
    fewer = max(int(told[1]) // 2, plan.spec.workload.concurrency)
    if fewer >= int(told[1]):
        return ()
    return (Lesson(key, fewer, f"the sampler did not fit with {int(told[1]):,} requests"),)


def _needed_bytes(measured: Measured) -> int | None:
    """What the process held when memory ran out, and what it wanted."""
    held, wanted = measured.of_engine("oom_process_bytes"), measured.of_engine("oom_wanted_bytes")
    return None if held is None or wanted is None else int(held + wanted)


def _fullest(plan: Plan) -> GpuEstimate | None:
    return min(plan.per_gpu, key=lambda card: card.headroom_bytes, default=None)
