"""Chooses how the model is divided among the cards, and checks what the user chose."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.errors import Problem
from nexus_orch.plan.architecture import Architecture
from nexus_orch.plan.inputs import Inputs
from nexus_orch.types import Choice

SMALL_SHARE = 0.1
"""A model whose weights take less than this share of one card stays on one card."""


@dataclass(frozen=True)
class Division:
    """Ranks of tensor and pipeline parallelism with their choices."""

    tensor_parallel: int
    pipeline_parallel: int
    choices: tuple[Choice, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def ranks(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


def is_valid_tensor_parallel(architecture: Architecture, ranks: int) -> bool:
    """vLLM wants the attention heads divisible, and KV heads divisible or repeated a whole number of times
    (config/model.py: verify_with_parallel_config)."""
    if architecture.attention_heads % ranks:
        return False
    kv_heads = architecture.kv_heads
    return architecture.is_mla or kv_heads % ranks == 0 or ranks % kv_heads == 0


def choose_division(inputs: Inputs) -> Division:
    """The pinned numbers, else all cards by tensor parallelism as far as the heads allow, the rest by pipeline."""
    wishes, cards = inputs.wishes, len(inputs.facts.machine.gpus)
    architecture = inputs.architecture
    tensor, pipeline = wishes.spec.serve.tensor_parallel, wishes.spec.serve.pipeline_parallel
    available = max(1, cards) if not inputs.is_cpu else 1
    if tensor is None:
        tensor, why = _derive_tensor(inputs, max(1, available // (pipeline or 1)))
    else:
        why = ""
    if pipeline is None:
        pipeline, pipeline_why = _derive_pipeline(inputs, available, tensor)
    else:
        pipeline_why = ""
    choices = []
    if tensor > 1 or available > 1 or wishes.is_fixed("serve.tensor_parallel"):
        choices.append(wishes.choice("serve.tensor_parallel", tensor, why))
    if pipeline > 1 or wishes.is_fixed("serve.pipeline_parallel"):
        choices.append(wishes.choice("serve.pipeline_parallel", pipeline, pipeline_why))
    return Division(tensor, pipeline, tuple(choices), tuple(_problems(inputs, architecture, tensor, pipeline)))


def _derive_tensor(inputs: Inputs, cards: int) -> tuple[int, str]:
    if cards == 1:
        return 1, "one card" if not inputs.is_cpu else "one CPU worker"
    layout = inputs.weight_layout(1, 1, whole_segments=False)
    if layout.stages[0].total_bytes < SMALL_SHARE * inputs.facts.machine.gpus[0].total_bytes:
        return 1, f"the model takes less than {SMALL_SHARE:.0%} of one card, so that dividing it would not pay"
    heads = f"{inputs.architecture.attention_heads} attention heads"
    divisors = [ranks for ranks in range(1, cards + 1) if cards % ranks == 0]
    best = max(ranks for ranks in divisors if is_valid_tensor_parallel(inputs.architecture, ranks))
    if best == cards:
        return cards, f"all {cards} cards: {heads} divide evenly"
    return best, f"{heads} do not divide among {cards} cards"


def _derive_pipeline(inputs: Inputs, cards: int, tensor: int) -> tuple[int, str]:
    rest = max(1, cards // tensor)
    if rest == 1 or tensor == cards:
        return 1, "tensor parallelism covers the cards"
    layout = inputs.weight_layout(1, 1, whole_segments=False)
    if layout.stages[0].total_bytes < SMALL_SHARE * inputs.facts.machine.gpus[0].total_bytes:
        return 1, "the model is small"
    stages = min(rest, len(inputs.architecture.layers))
    return stages, f"{stages} stages of layers use the cards that the heads cannot"


def _problems(inputs: Inputs, architecture: Architecture, tensor: int, pipeline: int) -> list[Problem]:
    found, origin = [], inputs.wishes.problem_origin
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
    if not inputs.is_cpu and tensor * pipeline > cards:
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
