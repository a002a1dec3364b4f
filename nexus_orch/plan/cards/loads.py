"""What the layers of a model weigh on each stage of a division, and what room the stages have for them."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.want import Want, make_want
from nexus_orch.plan.cards.partition import Load
from nexus_orch.plan.model.architecture import AttentionCache, Layer
from nexus_orch.plan.release.accounting import (
    Batch,
    activation_bytes,
    compiling_bytes,
    cuda_graph_bytes,
    kv_doubt,
    non_torch_bytes,
)
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.plan.release.kv_cache import state_bytes, token_bytes
from nexus_orch.types import MIB, GpuFacts

FREE_MARGIN_BYTES = 64 * MIB
"""Left free beside the budget, for what grows between the plan and the launch."""

Groups = Sequence[tuple[GpuFacts, ...]]
"""The cards of each pipeline stage."""


def free_bytes(inputs: Inputs, gpu: GpuFacts) -> int:
    """What is free on a card, as it was last seen."""
    learned = inputs.wishes.quantity(f"machine.free_bytes.{gpu.index}")
    return gpu.free_bytes if learned is None else learned


def make_load(inputs: Inputs, groups: Groups) -> Load:
    """The layers and the room of a division, with the engine's own batching and the low end of the estimate.

    All ranks share one gpu_memory_utilization, so that the card with the smallest free share decides it; the smallest
    card of a stage decides its room.
    """
    tensor, stages = len(groups[0]), len(groups)
    generation, want = inputs.generation(), make_want(inputs)
    layout = inputs.weight_layout(tensor, 1, whole_segments=generation.whole_segments)
    ends = inputs.weight_layout(tensor, min(stages, 3), whole_segments=generation.whole_segments).stages
    first = groups[0][0]
    tokens, requests = default_batching(first.total_bytes, first.name, generation, tensor * stages)
    serve, context = inputs.spec.serve, inputs.spec.model.max_model_len or want.context
    batch = Batch(serve.max_num_batched_tokens or tokens, serve.max_num_seqs or requests, context, tensor)
    peak = activation_bytes(inputs.architecture, generation, batch, first)
    eager = bool(inputs.spec.memory.enforce_eager)
    graphs = cuda_graph_bytes(inputs.architecture, generation, batch, eager=eager)
    outside = 0 if generation.graphs_reserved else graphs
    taken = graphs if generation.graphs_reserved else 0
    taken += kv_doubt(generation, peak, tensor * stages).below
    share = _utilization(inputs, [gpu for group in groups for gpu in group], outside)
    is_moe = inputs.architecture.is_moe
    rooms = []
    for stage, group in enumerate(groups):
        budget = int(min(gpu.total_bytes for gpu in group) * share)
        end = ends[0 if stage == 0 else -1 if stage == stages - 1 else 1]
        cache_gib = inputs.spec.memory.kv_cache.size_gib
        compiling = 0 if eager else compiling_bytes(end.compiled_embedding_bytes, generation, group[0], cache_gib)
        fixed = end.fixed_bytes + max(peak, compiling)
        rooms.append(budget - fixed - taken - non_torch_bytes(group[0], generation, tensor * stages, experts=is_moe))
    layers = inputs.architecture.layers
    weights = layout.stages[0].layer_bytes
    return Load(
        tuple(size + _state_bytes(inputs, layer, tensor, want) for size, layer in zip(weights, layers, strict=True)),
        tuple(_token_bytes(inputs, layer, tensor, want) for layer in layers),
        tuple(rooms),
    )


def _utilization(inputs: Inputs, gpus: Sequence[GpuFacts], outside: int) -> float:
    pinned = inputs.spec.memory.gpu_memory_utilization
    if pinned is not None:
        return pinned
    shares = [(free_bytes(inputs, gpu) - outside - FREE_MARGIN_BYTES) / gpu.total_bytes for gpu in gpus]
    return max(0.0, min(inputs.generation().default_utilization, *shares))


def _token_bytes(inputs: Inputs, layer: Layer, tensor: int, want: Want) -> float:
    """A layer that sees a window only keeps no more than that of the wanted context."""
    cache = layer.cache
    if not isinstance(cache, AttentionCache):
        return 0.0
    part = 1.0 if cache.window is None else min(1.0, cache.window / want.context)
    return part * token_bytes(cache, tensor, inputs.kv_dtype_bytes)


def _state_bytes(inputs: Inputs, layer: Layer, tensor: int, want: Want) -> int:
    if layer.cache is None or isinstance(layer.cache, AttentionCache):
        return 0
    return want.requests * state_bytes(layer.cache, tensor, inputs.dtype_bytes)
