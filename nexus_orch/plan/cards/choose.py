"""Chooses how the model is divided among the cards, and checks what the user chose."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch.errors import Problem
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.cards.account import free_bytes
from nexus_orch.plan.cards.interconnect import has_nvlink
from nexus_orch.plan.cards.parallelism import Parallelism, is_valid_tensor_parallel
from nexus_orch.plan.cards.partition import LEAST_GAIN
from nexus_orch.plan.cards.pipeline import release_partition, with_partition
from nexus_orch.plan.cards.unlike import (
    Candidate,
    are_unlike,
    choose_candidate,
    find_candidates,
    make_candidate,
    render_card,
)
from nexus_orch.types import GIB, Choice, GpuFacts

SMALL_SHARE = 0.1
"""A model whose weights take less than this share of one card stays on one card."""
CLEARLY_FASTER = 0.9
"""A pipeline takes the place of tensor parallelism where a request costs less than this part of the time."""
FREER_BYTES = GIB // 2
"""Other cards than the first ones are taken when this much more is free on them."""
WEIGHTS_SHARE = 0.9
"""The share of all cards' memory beyond which weights lie in host RAM in part."""


def choose_parallelism(inputs: Inputs) -> Parallelism:
    """The parallelism with the pinned numbers, else the one that the cards, the links between them and the objective
    speak for."""
    cards = inputs.facts.machine.gpus
    if inputs.is_cpu:
        return _on_cpu(inputs)
    engines = inputs.engines
    if engines > 1:
        return _side_by_side(inputs, cards, engines)
    if are_unlike(inputs, cards):
        candidates = list(find_candidates(inputs, cards))
        if candidates:
            return _among_unlike(inputs, candidates)
    tensor, pipeline, why = _choose_shape(inputs, cards)
    gpus = _choose_gpus(inputs, cards, tensor * pipeline)
    choices = _shape_choices(inputs, tensor, pipeline, why, available=len(cards))
    first = cards[: len(gpus)]
    if gpus != first or inputs.fixed.has("hardware.gpu.devices"):
        choices = (*choices, *_device_choices(inputs, gpus, "the cards with the most free memory"))
    elif _would_take_others(inputs, cards):
        # All of them: the engine takes as many as it has ranks.
        choices = (*choices, *_device_choices(inputs, cards, "the cards that are meant: the engine sees others first"))
    parallelism = Parallelism(tensor, pipeline, choices, tuple(_problems(inputs, tensor, pipeline)), gpus)
    return parallelism if parallelism.problems else with_partition(inputs, parallelism)


def _side_by_side(inputs: Inputs, cards: tuple[GpuFacts, ...], engines: int) -> Parallelism:
    """The parallelism of one of several engines that share the cards: each takes tensor x pipeline of them, the first
    one the first (config/parallel.py: world_size_across_dp). What is planned is the first engine."""
    own = cards[: len(cards) // engines]
    tensor, pipeline, why = _choose_shape(inputs, own)
    choices = _shape_choices(inputs, tensor, pipeline, why, available=len(own))
    if inputs.fixed.has("hardware.gpu.devices") or _would_take_others(inputs, cards):
        taken = cards[: engines * tensor * pipeline]
        choices = (
            *choices,
            *_device_choices(inputs, taken, "the cards of all engines in their order"),
        )
    problems = tuple(_problems(inputs, tensor, pipeline))
    parallelism = Parallelism(tensor, pipeline, choices, problems, own[: tensor * pipeline])
    return parallelism if problems else with_partition(inputs, parallelism)


def _would_take_others(inputs: Inputs, cards: tuple[GpuFacts, ...]) -> bool:
    """Whether the first cards that an engine sees here are not those that the run may use."""
    seen = inputs.facts.machine.visible_gpus
    is_told = "CUDA_VISIBLE_DEVICES" in inputs.spec.engine.env
    return bool(seen) and not is_told and tuple(gpu.index for gpu in cards) != seen[: len(cards)]


def _on_cpu(inputs: Inputs) -> Parallelism:
    serve = inputs.fixed.spec.serve
    tensor, pipeline = serve.tensor_parallel or 1, serve.pipeline_parallel or 1
    choices = _shape_choices(inputs, tensor, pipeline, "one CPU worker", available=1)
    return Parallelism(tensor, pipeline, choices, tuple(_problems(inputs, tensor, pipeline)))


def _shape_choices(inputs: Inputs, tensor: int, pipeline: int, why: str, *, available: int) -> tuple[Choice, ...]:
    """The choices of the numbers of ranks: none where there is one card and one rank."""
    fixed, choices = inputs.fixed, []
    if tensor > 1 or available > 1 or fixed.has("serve.tensor_parallel"):
        choices.append(fixed.choice("serve.tensor_parallel", tensor, why))
    if pipeline > 1 or fixed.has("serve.pipeline_parallel"):
        choices.append(fixed.choice("serve.pipeline_parallel", pipeline, why))
    return tuple(choices)


def _choose_shape(inputs: Inputs, cards: Sequence[GpuFacts]) -> tuple[int, int, str]:
    """Numbers of tensor and pipeline parallelism over equal cards, and why."""
    serve, available = inputs.fixed.spec.serve, max(1, len(cards))
    stages = serve.pipeline_parallel or len(serve.pipeline_partition or ()) or None
    if serve.tensor_parallel is not None and stages is not None:
        return serve.tensor_parallel, stages, "as many stages as layers are dealt out to"
    if available == 1:
        return serve.tensor_parallel or 1, stages or 1, "one card"
    if inputs.whole.total_bytes < SMALL_SHARE * cards[0].total_bytes:
        why = f"the model takes less than {SMALL_SHARE:.0%} of one card, so that dividing it would not pay"
        return serve.tensor_parallel or 1, stages or 1, why
    shapes = _shapes(inputs, available)
    if not shapes:
        return serve.tensor_parallel or 1, stages or max(1, available // (serve.tensor_parallel or 1)), "what is left"
    return _compare_shapes(inputs, cards, shapes)


def _shapes(inputs: Inputs, available: int) -> list[tuple[int, int]]:
    """Numbers of tensor and pipeline parallelism that the heads, the layers and the pins allow, the most tensor
    parallelism first."""
    serve, architecture = inputs.fixed.spec.serve, inputs.architecture
    pinned = serve.pipeline_parallel or len(serve.pipeline_partition or ()) or None
    found = []
    for tensor in range(available, 0, -1):
        if serve.tensor_parallel not in (None, tensor):
            continue
        stages = pinned or min(available // tensor, len(architecture.layers))
        is_whole = available % tensor == 0 or serve.tensor_parallel is not None or pinned is not None
        if tensor * stages > available or not is_whole or not is_valid_tensor_parallel(architecture, tensor):
            continue
        found.append((tensor, stages))
    return found


def _compare_shapes(
    inputs: Inputs, cards: Sequence[GpuFacts], shapes: Sequence[tuple[int, int]]
) -> tuple[int, int, str]:
    """The shape with the most tensor parallelism, unless cards without NVLink would wait longer for each other than it
    saves.

    vLLM's guide to parallelism and scaling advises the same: pipeline parallelism for cards without NVLink, such as
    L40S. Weights beyond the cards' memory come over each card's own bus, which all ranks of a layer use at once.
    """
    tensor, stages = shapes[0]
    heads = f"{inputs.architecture.attention_heads} attention heads"
    serve = inputs.fixed.spec.serve
    if serve.tensor_parallel or serve.pipeline_parallel or serve.pipeline_partition:
        return tensor, stages, "follows from the other pinned numbers and the cards"
    if len(shapes) == 1 and stages > 1:
        return tensor, stages, f"{heads} do not divide among {len(cards)} cards: stages of layers use the others"
    even = f"{heads} divide evenly" if stages == 1 else f"the most that {heads} allow, and stages use the other cards"
    if has_nvlink(cards):
        return tensor, stages, f"all {len(cards)} cards: NVLink joins them, and {even}"
    if inputs.whole.total_bytes > WEIGHTS_SHARE * sum(gpu.total_bytes for gpu in cards):
        return tensor, stages, f"all {len(cards)} cards: each brings its bus for the weights in host RAM; {even}"
    candidates = {shape: _candidate(inputs, cards, shape) for shape in shapes}
    return _fastest(inputs, candidates, shapes[0], even)


def _candidate(inputs: Inputs, cards: Sequence[GpuFacts], shape: tuple[int, int]) -> Candidate:
    tensor, stages = shape
    groups = tuple(tuple(cards[index * tensor : (index + 1) * tensor]) for index in range(stages))
    return make_candidate(inputs, groups, release_partition(inputs, stages))


def _fastest(
    inputs: Inputs, candidates: dict[tuple[int, int], Candidate], widest: tuple[int, int], even: str
) -> tuple[int, int, str]:
    objective, cards = inputs.spec.workload.objective, widest[0] * widest[1]
    best = min(candidates, key=lambda shape: candidates[shape].seconds(objective))
    wide, fast = candidates[widest], candidates[best]
    if wide.cost is None or fast.cost is None or len(candidates) == 1:
        return *widest, f"all {cards} cards: {even}"
    other = min((shape for shape in candidates if shape != widest), key=lambda s: candidates[s].seconds(objective))
    narrow = candidates[other]
    costs = (
        f"{wide.seconds(objective):.3g} s by tensor parallelism, {narrow.seconds(objective):.3g} s by {other[1]} stages"
    )
    what = "takes the cards" if objective == "throughput" else "takes"
    if fast.seconds(objective) < CLEARLY_FASTER * wide.seconds(objective):
        waits = f"{wide.cost.exchange * 1e3:.2g} ms of all-reduces for each token of a prompt"
        return *best, f"no NVLink, and {waits}: a request {what} about {costs}"
    waits = f"all-reduces take about {wide.cost.token_exchange * 1e3:.2g} ms of a token"
    return *widest, f"all {cards} cards without NVLink: {waits}; a request {what} about {costs}"


def _choose_gpus(inputs: Inputs, cards: tuple[GpuFacts, ...], ranks: int) -> tuple[GpuFacts, ...]:
    """The first cards, or those with clearly more free memory where not all are needed and none are pinned."""
    first = cards[:ranks]
    if inputs.spec.hardware.gpu.devices is not None or ranks >= len(cards):
        return first
    freest = sorted(cards, key=lambda gpu: (-free_bytes(inputs, gpu), gpu.index))[:ranks]
    gain = min(free_bytes(inputs, gpu) for gpu in freest) - min(free_bytes(inputs, gpu) for gpu in first)
    return tuple(sorted(freest, key=cards.index)) if gain > FREER_BYTES else first


def _among_unlike(inputs: Inputs, candidates: Sequence[Candidate]) -> Parallelism:
    """The best use of cards that differ, named to the engine in the order of the ranks."""
    chosen = choose_candidate(inputs, candidates)
    tensor, stages = chosen.shape
    why = _why_unlike(inputs, chosen, candidates)
    choices = _shape_choices(inputs, tensor, stages, why, available=len(inputs.facts.machine.gpus))
    left = [gpu for gpu in inputs.facts.machine.gpus if gpu not in chosen.gpus]
    reason = "the cards differ: the ranks take them in this order"
    if left:
        reason = f"{', '.join(map(render_card, left))} left out: {why}"
    choices = (*choices, *_device_choices(inputs, chosen.gpus, reason))
    parallelism = Parallelism(tensor, stages, choices, tuple(_problems(inputs, tensor, stages)), chosen.gpus)
    return parallelism if parallelism.problems else with_partition(inputs, parallelism)


def _why_unlike(inputs: Inputs, chosen: Candidate, candidates: Sequence[Candidate]) -> str:
    """One clause with what the best of the other ways to use the cards would give."""
    others = [other for other in candidates if other is not chosen]
    if not others:
        return "the only way that is left open"
    objective = inputs.spec.workload.objective
    whole = [other for other in others if len(other.gpus) == len(inputs.facts.machine.gpus)] or others
    other = choose_candidate(inputs, whole)
    way = f"{_render_shape(other)} over {len(other.gpus)} card{'' if len(other.gpus) == 1 else 's'}"
    if chosen.missing_bytes > 0:
        more = f"{other.missing_bytes / GIB:.1f}"
        return f"the fullest card lacks {chosen.missing_bytes / GIB:.1f} GiB for its weights; {way} lacks {more}"
    if chosen.tokens > LEAST_GAIN * max(0.0, other.tokens) or chosen.cost is None or other.cost is None:
        return f"room for about {max(0, int(chosen.tokens)):,} tokens; {way} has {max(0, int(other.tokens)):,}"
    return f"about {chosen.seconds(objective):.3g} s for a request; {way} takes {other.seconds(objective):.3g} s"


def _render_shape(candidate: Candidate) -> str:
    tensor, stages = candidate.shape
    parts = [f"tensor parallelism of {tensor}"] if tensor > 1 else []
    parts += [f"{stages} stages"] if stages > 1 else []
    return " in ".join(parts) or "the whole model"


def _device_choices(inputs: Inputs, gpus: Sequence[GpuFacts], reason: str) -> tuple[Choice, ...]:
    """The choices that name the cards by their numbers, which CUDA must count as NVML does: by itself it puts the
    fastest card first."""
    indices = tuple(gpu.index for gpu in gpus)
    order = "so that CUDA numbers the cards as NVML does"
    return (
        inputs.fixed.choice("hardware.gpu.devices", indices, reason),
        Choice("hardware.gpu.device_order", "PCI_BUS_ID", "derived", order),
    )


def _problems(inputs: Inputs, tensor: int, pipeline: int) -> list[Problem]:
    found, origin = [], inputs.fixed.problem_origin
    architecture = inputs.architecture
    cards = len(inputs.facts.machine.gpus)
    if not is_valid_tensor_parallel(architecture, tensor):
        valid = [n for n in range(1, max(cards, 8) + 1) if is_valid_tensor_parallel(architecture, n)]
        found.append(
            Problem(
                f"{architecture.attention_heads} attention heads ({architecture.kv_heads} for keys and values) do not "
                f"divide among {tensor} ranks",
                key="serve.tensor_parallel",
                value=tensor,
                origin=origin("serve.tensor_parallel"),
                remedy=f"use one of {', '.join(map(str, valid))}",
                cause="tensor_parallel_invalid",
            )
        )
    partition = inputs.spec.serve.pipeline_partition
    if partition is not None and sum(partition) != len(architecture.layers):
        found.append(
            Problem(
                f"the stages have {sum(partition)} layers, the model has {len(architecture.layers)}",
                key="serve.pipeline_partition",
                value=list(partition),
                origin=origin("serve.pipeline_partition"),
                remedy="deal out all layers, or serve.pipeline_partition=auto",
                cause="tensor_parallel_invalid",
            )
        )
    if pipeline > len(architecture.layers):
        found.append(
            Problem(
                f"{len(architecture.layers)} layers cannot make {pipeline} pipeline stages",
                key="serve.pipeline_parallel",
                value=pipeline,
                origin=origin("serve.pipeline_parallel"),
                remedy=f"use at most {len(architecture.layers)}",
                cause="tensor_parallel_invalid",
            )
        )
    if not inputs.is_cpu and inputs.engines * tensor * pipeline > cards and inputs.engines > 1:
        found.append(_too_many_engines(inputs, tensor * pipeline, cards))
    elif not inputs.is_cpu and tensor * pipeline > cards:
        found.append(
            Problem(
                f"{tensor} x {pipeline} ranks need {tensor * pipeline} cards; the run has {cards}",
                key="serve.tensor_parallel",
                value=tensor,
                origin=origin("serve.tensor_parallel") or origin("serve.pipeline_parallel"),
                remedy=f"use at most {cards}, or name the cards that you have (hardware.gpu.count)",
                cause="not_enough_gpus",
            )
        )
    return found


def _too_many_engines(inputs: Inputs, each: int, cards: int) -> Problem:
    """Why the engines together want more cards than there are."""
    engines, key = inputs.engines, "serve.data_parallel"
    pinned = inputs.spec.serve.data_parallel
    fits = cards // engines
    return Problem(
        f"{engines} engines of {each} cards each need {engines * each} cards, and there are {cards}",
        key=key if pinned is not None else "serve.extra_args",
        value=engines,
        origin=inputs.fixed.problem_origin(key) or inputs.fixed.problem_origin("serve.extra_args"),
        remedy=f"serve.tensor_parallel={fits}" if fits else f"serve.data_parallel={max(1, cards // each)}",
        cause="not_enough_gpus",
    )
