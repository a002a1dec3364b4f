"""A run on GPUs with its parallelism and batching fixed: what each card must hold, before the weights are placed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.contracts import Need, Placement
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.want import Want
from nexus_orch.plan.cards.division import Division
from nexus_orch.plan.cards.loads import FREE_MARGIN_BYTES, free_bytes
from nexus_orch.plan.estimate.bus_rates import BusRates, layer_matrices, read_rates
from nexus_orch.plan.offload.kv_tier import kv_page_table_bytes
from nexus_orch.plan.release.accounting import (
    Batch,
    Doubt,
    activation_bytes,
    compiling_bytes,
    cuda_graph_bytes,
    kv_doubt,
    non_torch_bytes,
)
from nexus_orch.plan.release.generations import Generation
from nexus_orch.plan.release.kv_cache import CacheLayout, CacheShape, make_layout
from nexus_orch.plan.release.peak import Peak, learn_peak
from nexus_orch.plan.release.weights import WeightLayout
from nexus_orch.types import COMPILED_PEAK, GIB, MIB, PASS_PEAK, GpuFacts

DEFAULT_BLOCK_SIZE = 16
HIGHEST_UTILIZATION = 0.97
NARROW_CACHE_WORKSPACE_BYTES = 394 * MIB
"""FlashInfer's buffer, taken at the first batch, when the KV cache has its memory already (envs.py:
VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE; v1/attention/backends/flashinfer.py of 0.11.2 and 0.33.0)."""
GUESS_FACTOR = 3
"""How much wider the range is for an architecture that was made of tensor headers; an assumption, not a measurement."""


@dataclass(frozen=True)
class Draft:
    """Everything but the placement of the weights and the share of memory. Bytes are of each card."""

    inputs: Inputs
    division: Division
    generation: Generation
    batched_tokens: int
    requests: int
    eager: bool
    want: Want

    @property
    def gpus(self) -> tuple[GpuFacts, ...]:
        """The cards that the run uses, the ranks of the first pipeline stage first."""
        return self.division.gpus

    @cached_property
    def weights(self) -> WeightLayout:
        return self.inputs.weight_layout(
            self.division.tensor_parallel,
            self.division.pipeline_parallel,
            whole_segments=self.generation.whole_segments,
            partition=self.division.partition,
        )

    @cached_property
    def caches(self) -> tuple[CacheLayout, ...]:
        """The cache layout of each pipeline stage."""
        shape = CacheShape(
            self.division.tensor_parallel,
            self.inputs.kv_dtype_bytes,
            self.inputs.dtype_bytes,
            self.inputs.spec.memory.kv_cache.block_size or DEFAULT_BLOCK_SIZE,
            self.batched_tokens,
        )
        layers = self.inputs.architecture.layers
        sizes = self.weights.sizes
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return tuple(
            make_layout(layers[start : start + size], shape, self.generation.cache)
            for start, size in zip(starts, sizes, strict=True)
        )

    @cached_property
    def bus_rates(self) -> tuple[BusRates, ...]:
        """What is known of each card's bus where whole layers are read over it."""
        matrices = layer_matrices(self.weights)
        return tuple(read_rates(self.inputs.wishes, gpu, matrices) for gpu in self.gpus)

    @cached_property
    def part_bus_rates(self) -> tuple[BusRates, ...]:
        """The same where only parts of layers are."""
        return tuple(read_rates(self.inputs.wishes, gpu, ()) for gpu in self.gpus)

    def stage_of(self, card: int) -> int:
        return card // self.division.tensor_parallel

    @cached_property
    def peak(self) -> Peak:
        """Of the profile, on each card."""
        cache_gib = self.inputs.spec.memory.kv_cache.size_gib
        embeddings = (
            self.weights.stages[self.stage_of(card)].compiled_embedding_bytes for card in range(len(self.gpus))
        )
        compiling = tuple(
            0 if self.eager else compiling_bytes(embedding, self.generation, gpu, cache_gib)
            for embedding, gpu in zip(embeddings, self.gpus, strict=True)
        )
        one_pass = activation_bytes(self.inputs.architecture, self.generation, self._batch, self.gpus[0])
        quantity = self.inputs.wishes.quantity
        return learn_peak(
            Peak(one_pass, compiling), quantity(PASS_PEAK), None if self.eager else quantity(COMPILED_PEAK)
        )

    @cached_property
    def peak_and_graph_bytes(self) -> int:
        """What the profile and the CUDA graphs take on the fullest card."""
        return max(self.peak.bytes) + self.graph_bytes

    @cached_property
    def graph_bytes(self) -> int:
        learned = self.inputs.wishes.quantity("measured.cuda_graph_bytes")
        if learned is not None and not self.eager:
            return learned
        return cuda_graph_bytes(self.inputs.architecture, self.generation, self._batch, eager=self.eager)

    @property
    def _batch(self) -> Batch:
        context = self.inputs.spec.model.max_model_len or self.want.context
        return Batch(self.batched_tokens, self.requests, context, self.division.tensor_parallel)

    def non_torch_bytes(self, card: int) -> int:
        learned = self.inputs.wishes.quantity("measured.non_torch_bytes")
        if learned is not None:
            return learned
        return non_torch_bytes(
            self.gpus[card], self.generation, self.division.ranks, experts=self.inputs.architecture.is_moe
        )

    @cached_property
    def weights_bytes(self) -> tuple[int, ...]:
        """All weights of each card's rank, wherever they will lie. What was measured is the fullest rank's."""
        computed = [self.weights.stages[self.stage_of(card)].total_bytes for card in range(len(self.gpus))]
        learned = self.inputs.wishes.quantity("measured.weights_bytes")
        if learned is None:
            return tuple(computed)
        fullest = max(stage.total_bytes for stage in self.weights.stages)
        return tuple(learned * size // fullest for size in computed)

    def freed_bytes(self, card: int, offloaded: int) -> int:
        """Device memory that offloading so many bytes of parameters frees: what the allocator added goes with them."""
        stage = self.weights.stages[self.stage_of(card)]
        return offloaded * stage.layers_bytes // stage.plain_bytes if stage.plain_bytes else 0

    def kept_bytes(self, card: int, offloaded: int) -> int:
        """The weights that stay on this card."""
        return max(0, self.weights_bytes[card] - self.freed_bytes(card, offloaded))

    @cached_property
    def free_bytes(self) -> tuple[int, ...]:
        """What is free on each card before the run."""
        return tuple(free_bytes(self.inputs, gpu) for gpu in self.gpus)

    @cached_property
    def fixed_bytes(self) -> tuple[int, ...]:
        """What is taken on each card inside the budget beside weights and KV cache."""
        graphs = self.graph_bytes if self.generation.graphs_reserved else 0
        cards = range(len(self.gpus))
        return tuple(self.peak.bytes[card] + self.non_torch_bytes(card) + graphs for card in cards)

    def outside_bytes(self, placement: Placement | None = None) -> int:
        """What is taken on each card on top of the budget, once the weights are placed."""
        graphs = 0 if self.generation.graphs_reserved else self.graph_bytes
        taken = graphs + self._workspace_bytes
        if placement is None:
            return taken
        pool = 0 if self.generation.pool_reserved else max(placement.static_pool_bytes, default=0)
        memory = self.inputs.spec.memory
        asked = placement.kv_offload_bytes or int((memory.kv_offload_gib or 0) * GIB)
        tiered = memory.kv_offload_dir is not None
        return taken + pool + kv_page_table_bytes(asked, self.inputs.facts, len(self.gpus), tiered=tiered)

    @property
    def _workspace_bytes(self) -> int:
        """Hopper's FlashAttention reads a cache of 8 bits by itself; other cards take FlashInfer for it."""
        capability = self.gpus[0].compute_capability
        needed = self.inputs.kv_dtype_bytes == 1 and (capability is None or capability[0] != 9)
        return NARROW_CACHE_WORKSPACE_BYTES if needed else 0

    def free_utilization(self, outside_bytes: int) -> float:
        """The largest gpu_memory_utilization that the free memory of every card allows, to a thousandth."""
        shares = [
            (free - outside_bytes - FREE_MARGIN_BYTES) / gpu.total_bytes
            for free, gpu in zip(self.free_bytes, self.gpus, strict=True)
        ]
        return max(0.001, min(HIGHEST_UTILIZATION, math.floor(min(shares) * 1000) / 1000))

    def budget_bytes(self, card: int, utilization: float) -> int:
        """vLLM: v1/worker/utils.py, request_memory."""
        return math.ceil(self.gpus[card].total_bytes * utilization)

    @cached_property
    def wanted_cache_bytes(self) -> tuple[int, ...]:
        """The least cache of each stage for the wanted context and concurrency, with room for the estimate's error."""
        requests = (cache.request_bytes(self.want.request_tokens, self.want.requests) for cache in self.caches)
        return tuple(
            max(context, wanted + self.doubt.below)
            for context, wanted in zip(self.context_cache_bytes, requests, strict=True)
        )

    @cached_property
    def context_cache_bytes(self) -> tuple[int, ...]:
        """The part of it, of each stage, without which not even one request of the wanted context can be served."""
        return tuple(cache.request_bytes(self.want.context) + self.doubt.below for cache in self.caches)

    @cached_property
    def doubt(self) -> Doubt:
        """How far the KV cache's real size may lie from the estimate, of a start that compiles the model."""
        learned = self.inputs.wishes.lessons
        if PASS_PEAK in learned or (COMPILED_PEAK in learned and not self.eager):
            return Doubt(FREE_MARGIN_BYTES, FREE_MARGIN_BYTES)
        doubt = kv_doubt(self.generation, self.peak.pass_bytes, self.division.ranks)
        factor = GUESS_FACTOR if self.inputs.architecture.is_guess else 1
        return Doubt(doubt.below * factor, doubt.above * factor)

    def needs(self, utilization: float) -> tuple[Need, ...]:
        """What a loader is told about each card; equal cards of a stage share one record."""
        known: dict[tuple[object, ...], Need] = {}
        found = []
        for card, gpu in enumerate(self.gpus):
            kind = self.stage_of(card), gpu.total_bytes, gpu.compute_capability
            if kind not in known:
                known[kind] = self._need(card, utilization)
            found.append(known[kind])
        return tuple(found)

    def _need(self, card: int, utilization: float) -> Need:
        stage = self.weights.stages[self.stage_of(card)]
        return Need(
            budget_bytes=self.budget_bytes(card, utilization),
            weights_bytes=self.weights_bytes[card],
            movable_bytes=stage.layers_bytes,
            layer_bytes=stage.layer_bytes,
            fixed_bytes=self.fixed_bytes[card],
            kv_cache_bytes=self.wanted_cache_bytes[self.stage_of(card)],
            parameter_bytes=stage.parameter_bytes,
            active_layer_bytes=stage.active_layer_bytes,
            parameter_names=stage.parameter_names,
            active_parameter_bytes=stage.active_parameter_bytes,
            tower_bytes=stage.tower_bytes,
            context_cache_bytes=self.context_cache_bytes[self.stage_of(card)],
            pool_reserved=self.generation.pool_reserved,
        )


def kv_bytes(draft: Draft, budgets: Sequence[int], placement: Placement) -> tuple[int, ...]:
    """The KV cache that the engine will size on each card; negative where nothing is left."""
    reserved = draft.generation.pool_reserved
    tables = placement.page_table_bytes or (0,) * len(draft.gpus)
    return tuple(
        budgets[card]
        - draft.kept_bytes(card, placement.offloaded_bytes[card])
        - draft.fixed_bytes[card]
        - tables[card]
        - (placement.static_pool_bytes[card] if reserved else 0)
        for card in range(len(draft.gpus))
    )
