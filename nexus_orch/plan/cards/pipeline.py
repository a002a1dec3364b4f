"""The layers of each pipeline stage: as pinned, as the release deals them out, or as leaves more room."""

from __future__ import annotations

from dataclasses import replace

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.cards.partition import LEAST_GAIN, choose_partition
from nexus_orch.plan.cards.pipeline_memory import make_pipeline_memory
from nexus_orch.plan.cards.unlike import are_unlike
from nexus_orch.plan.release.weights import stage_sizes
from nexus_orch.releases.models import layers_rest_in_the_middle

PARTITION_VARIABLE = "VLLM_PP_LAYER_PARTITION"


def release_partition(inputs: Inputs, stages: int) -> tuple[int, ...]:
    """How this release deals out the layers by itself."""
    rest_last = not layers_rest_in_the_middle(inputs.facts.engine.version)
    return stage_sizes(len(inputs.architecture.layers), stages, rest_last=rest_last)


def with_partition(inputs: Inputs, parallelism: Parallelism) -> Parallelism:
    """The parallelism with the layers of each stage: as pinned, as the release deals them out, or as leaves clearly
    more room."""
    stages = parallelism.pipeline_parallel
    if stages == 1:
        return parallelism
    usual = release_partition(inputs, stages)
    pinned = inputs.spec.serve.pipeline_partition or _from_variable(inputs, stages)
    groups = tuple(
        parallelism.gpus[start : start + parallelism.tensor_parallel]
        for start in range(0, parallelism.ranks, parallelism.tensor_parallel)
    )
    memory = make_pipeline_memory(inputs, groups)
    plain = memory.tokens(usual)
    is_fair = memory.most_tokens <= plain * LEAST_GAIN
    is_hopeless = memory.most_tokens < 0 and not are_unlike(inputs, parallelism.gpus)
    if pinned is None and (is_fair or is_hopeless):
        return replace(parallelism, partition=usual)
    best = pinned or choose_partition(memory)
    gain = memory.tokens(best)
    if pinned is None and (best == usual or gain <= max(plain * LEAST_GAIN, plain)):
        return replace(parallelism, partition=usual)
    if inputs.spec.serve.pipeline_partition is None and pinned is not None:
        return replace(parallelism, partition=pinned)
    equal = " + ".join(map(str, usual))
    if gain > 0:
        reason = f"holds about {int(gain):,} tokens on the fullest stage; {equal} layers hold {max(0, int(plain)):,}"
    else:
        reason = f"the layers by the memory of the cards; {equal} would lack more on the fullest"
    choice = inputs.fixed.choice("serve.pipeline_partition", best, reason)
    return replace(parallelism, partition=best, choices=(*parallelism.choices, choice))


def _from_variable(inputs: Inputs, stages: int) -> tuple[int, ...] | None:
    """Layers on each stage as the user's own variable has them, where vLLM would take it."""
    parts = inputs.spec.engine.env.get(PARTITION_VARIABLE, "").split(",")
    if len(parts) != stages or not all(part.strip().isdecimal() for part in parts):
        return None
    sizes = tuple(int(part) for part in parts)
    return sizes if sum(sizes) == len(inputs.architecture.layers) and min(sizes) > 0 else None
