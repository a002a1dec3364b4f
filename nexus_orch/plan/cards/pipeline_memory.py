"""What the layers of a model weigh on each stage of a pipeline, and what room the stages have for them."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.lora import StageLayers
from nexus_orch.plan.asked.target import Target, make_target
from nexus_orch.plan.cards.account import CardAccount, budget_bytes
from nexus_orch.plan.cards.partition import PipelineMemory
from nexus_orch.plan.model.architecture import AttentionCache, CompressedCache, Layer, StateCache
from nexus_orch.plan.release.compressed import BLOCK, page_bytes
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.plan.release.kv_cache import state_bytes, token_bytes
from nexus_orch.types import GpuFacts

StageCards = Sequence[tuple[GpuFacts, ...]]
"""The cards of each pipeline stage."""


def make_pipeline_memory(inputs: Inputs, groups: StageCards) -> PipelineMemory:
    """The layers and the room of these stages, with the engine's own batching and the low end of the estimate.

    All ranks share one gpu_memory_utilization, so that the card with the smallest free share decides it; the fullest
    card of a stage decides its room.
    """
    tensor, stages = len(groups[0]), len(groups)
    target, segments = make_target(inputs), inputs.generation().whole_segments
    ends = inputs.weight_layout(tensor, min(stages, 3), whole_segments=segments).stages
    of_stage = [ends[0 if stage == 0 else -1 if stage == stages - 1 else 1] for stage in range(stages)]
    account = _make_account(inputs, groups, [end.compiled_embedding_bytes for end in of_stage], target)
    left = _left_bytes(account)
    layers = inputs.architecture.layers
    weights = inputs.weight_layout(tensor, 1, whole_segments=segments).stages[0].layer_bytes
    return PipelineMemory(
        tuple(size + _state_bytes(inputs, layer, tensor, target) for size, layer in zip(weights, layers, strict=True)),
        tuple(_token_bytes(inputs, layer, tensor, target) for layer in layers),
        tuple(
            min(left[stage * tensor : (stage + 1) * tensor])
            - end.fixed_bytes
            - inputs.beside_bytes(tensor, _like_stage(inputs, stage, stages), whole_segments=segments)
            for stage, end in enumerate(of_stage)
        ),
    )


def _like_stage(inputs: Inputs, stage: int, stages: int) -> StageLayers:
    """A stage with an equal part of the layers."""
    layers = inputs.architecture.layers
    count = -(-len(layers) // stages)
    held = layers[stage * count : (stage + 1) * count]
    return StageLayers(held, is_first=stage == 0, is_last=stage == stages - 1)


def _make_account(inputs: Inputs, groups: StageCards, embeddings: Sequence[int], target: Target) -> CardAccount:
    """The account of the engine's own batching. What was measured may hold for another parallelism."""
    tensor, generation, first, serve = len(groups[0]), inputs.generation(), groups[0][0], inputs.spec.serve
    tokens, requests = default_batching(first.total_bytes, first.name, generation, tensor * len(groups))
    context = inputs.spec.model.max_model_len or target.context
    return CardAccount(
        inputs.by_estimates,
        generation,
        tuple(gpu for group in groups for gpu in group),
        tuple(size for size in embeddings for _ in range(tensor)),
        inputs.batch(serve.max_num_batched_tokens or tokens, serve.max_num_seqs or requests, context, tensor),
        bool(inputs.spec.memory.enforce_eager),
    )


def _left_bytes(account: CardAccount) -> list[int]:
    """Bytes that the budget of each card surely leaves for weights and KV cache; may be negative."""
    share = account.inputs.spec.memory.gpu_memory_utilization
    if share is None:
        share = max(0.0, min(account.generation.default_utilization, account.free_share(account.outside_bytes)))
    return [
        budget_bytes(gpu, share) - fixed - account.doubt.below
        for gpu, fixed in zip(account.gpus, account.fixed_bytes, strict=True)
    ]


def _token_bytes(inputs: Inputs, layer: Layer, tensor: int, target: Target) -> float:
    """Bytes of one token in a layer's cache: one that sees a window keeps no more than the window's part of the target
    context."""
    cache = layer.cache
    if isinstance(cache, CompressedCache):
        return sum(page_bytes(cache)) / BLOCK
    if not isinstance(cache, AttentionCache):
        return 0.0
    part = 1.0 if cache.window is None else min(1.0, cache.window / target.context)
    return part * token_bytes(cache, tensor, inputs.kv_dtype_bytes)


def _state_bytes(inputs: Inputs, layer: Layer, tensor: int, target: Target) -> int:
    if not isinstance(layer.cache, StateCache):
        return 0
    return target.requests * state_bytes(layer.cache, tensor, inputs.dtype_bytes)
