"""A run on GPUs with its parallelism and batching fixed: what each card must hold, before the weights are placed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.contracts import Need, Placement
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.lora import StageLayers
from nexus_orch.plan.asked.target import Target
from nexus_orch.plan.cards.account import CardAccount, budget_bytes
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.estimate.bus_rates import BusRates, layer_matrices, read_rates
from nexus_orch.plan.offload.kv_tier import kv_page_table_bytes
from nexus_orch.plan.release.generations import Generation
from nexus_orch.plan.release.kept import measured
from nexus_orch.plan.release.kv_cache import CacheLayout, make_layout
from nexus_orch.plan.release.pinning import grows_segments
from nexus_orch.plan.release.weights import WeightLayout
from nexus_orch.releases.lora import counts_model_alone
from nexus_orch.types import GIB, MIB, GpuFacts

DEFAULT_BLOCK_SIZE = 16
HIGHEST_UTILIZATION = 0.97


@dataclass(frozen=True)
class Draft:
    """Settings of a run but for the placement of the weights and the share of memory, and the memory that follows.
    Bytes are of each card."""

    inputs: Inputs
    parallelism: Parallelism
    generation: Generation
    batched_tokens: int
    requests: int
    eager: bool
    target: Target

    @property
    def gpus(self) -> tuple[GpuFacts, ...]:
        """The cards that the run uses, the ranks of the first pipeline stage first."""
        return self.parallelism.gpus

    @cached_property
    def weights(self) -> WeightLayout:
        return self._layout(expandable=False)

    @cached_property
    def expandable_weights(self) -> WeightLayout:
        """The weights where torch's segments grow."""
        return self._layout(expandable=True)

    def _layout(self, *, expandable: bool) -> WeightLayout:
        return self.inputs.weight_layout(
            self.parallelism.tensor_parallel,
            self.parallelism.pipeline_parallel,
            whole_segments=self.generation.whole_segments,
            partition=self.parallelism.partition,
            expandable=expandable,
        )

    @cached_property
    def caches(self) -> tuple[CacheLayout, ...]:
        """The cache layout of each pipeline stage."""
        ranks = self.parallelism.tensor_parallel, self.parallelism.pipeline_parallel
        shape = self.inputs.cache_shape(self.generation, self.batched_tokens, DEFAULT_BLOCK_SIZE, ranks)
        architecture, sizes = self.inputs.architecture, self.weights.sizes
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        layers = [architecture.layers[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        layers[-1] += self.inputs.draft_layers
        return tuple(make_layout(stage, shape, self.generation.cache) for stage in layers)

    @cached_property
    def bus_rates(self) -> tuple[BusRates, ...]:
        """Rates of each card's bus where whole layers are read over it."""
        matrices = layer_matrices(self.weights)
        return tuple(read_rates(self.inputs.fixed, gpu, matrices) for gpu in self.gpus)

    @cached_property
    def part_bus_rates(self) -> tuple[BusRates, ...]:
        """Rates of each card's bus where only parts of layers are read over it."""
        return tuple(read_rates(self.inputs.fixed, gpu, ()) for gpu in self.gpus)

    def stage_of(self, card: int) -> int:
        return card // self.parallelism.tensor_parallel

    @cached_property
    def account(self) -> CardAccount:
        """Memory of each card beside weights and KV cache."""
        context = self.inputs.spec.model.max_model_len or self.target.context
        stages = self.weights.stages
        return CardAccount(
            self.inputs,
            self.generation,
            self.gpus,
            tuple(stages[self.stage_of(card)].compiled_embedding_bytes for card in range(len(self.gpus))),
            self.inputs.batch(self.batched_tokens, self.requests, context, self.parallelism.tensor_parallel),
            self.eager,
        )

    @cached_property
    def weights_bytes(self) -> tuple[int, ...]:
        """All weights of each card's rank, wherever they will lie."""
        return self._weights_bytes(self.weights)

    def _weights_bytes(self, layout: WeightLayout) -> tuple[int, ...]:
        """The same by one way of the allocator. What was measured is the fullest rank's."""
        computed = [self._rank_bytes(layout, card) for card in range(len(self.gpus))]
        learned = self.inputs.fixed.quantity("measured.weights_bytes")
        if learned is None:
            return tuple(computed)
        return tuple(learned * size // max(computed) for size in computed)

    def _rank_bytes(self, layout: WeightLayout, card: int) -> int:
        """The weights of one card's rank, with what is loaded beside the model."""
        stage = self.stage_of(card)
        beside = 0 if self._is_beside_outside else self._beside_bytes(stage)
        return layout.stages[stage].total_bytes + beside

    @property
    def adapter_bytes(self) -> int:
        """Room for LoRA adapters on the fullest card."""
        lora, stages = self.inputs.lora, range(len(self.weights.sizes))
        if lora is None:
            return 0
        tensor = self.parallelism.tensor_parallel
        return max(lora.card_bytes(self.inputs.architecture, self._held(stage), tensor) for stage in stages)

    def _held(self, stage: int) -> StageLayers:
        sizes, start = self.weights.sizes, sum(self.weights.sizes[:stage])
        layers = self.inputs.architecture.layers[start : start + sizes[stage]]
        return StageLayers(layers, is_first=stage == 0, is_last=stage == len(sizes) - 1)

    def _beside_bytes(self, stage: int) -> int:
        tensor, held = self.parallelism.tensor_parallel, self._held(stage)
        return self.inputs.beside_bytes(tensor, held, whole_segments=self.generation.whole_segments)

    @property
    def _is_beside_outside(self) -> bool:
        """Whether what is loaded beside the model comes on top of the budget."""
        return counts_model_alone(self.inputs.facts.engine.version)

    def grows_segments(self, placement: Placement) -> bool:
        """Whether torch's segments grow in a run with this placement, as the adapter has them, and it is known what
        that changes: from 0.31 on, as measured with 0.33.0. Releases before 0.20 have them too."""
        spec, facts = self.inputs.spec, self.inputs.facts
        if not self.generation.free_compared or not any(placement.offloaded_bytes):
            return False
        return grows_segments(
            facts.engine,
            spec.engine.env,
            spec.serve.extra_args,
            tensor_parallel=self.parallelism.tensor_parallel * self.inputs.engines,
            is_wsl=facts.machine.is_wsl,
            has_connector=bool(placement.kv_offload_bytes or spec.memory.kv_offload_gib or spec.memory.kv_offload_dir),
        )

    def kept_bytes(self, card: int, placement: Placement) -> int:
        """The weights that stay on this card: what the allocator added to those that leave it goes with them."""
        layout = self.expandable_weights if self.grows_segments(placement) else self.weights
        stage, offloaded = layout.stages[self.stage_of(card)], placement.offloaded_bytes[card]
        freed = offloaded * stage.layers_bytes // stage.plain_bytes if stage.plain_bytes else 0
        return max(0, self._weights_bytes(layout)[card] - freed)

    def other_bytes(self, card: int, placement: Placement) -> int:
        """What stays taken on this card beside weights, KV cache and graphs, once the weights are placed."""
        tables = placement.page_table_bytes[card] if placement.page_table_bytes else 0
        grows = self.grows_segments(placement) and self.inputs.fixed.quantity("measured.non_torch_bytes") is None
        mapped = measured("non_torch")["expandable"] * MIB if grows else 0
        return self.account.other_bytes[card] + tables + mapped

    def outside_bytes(self, placement: Placement | None = None) -> int:
        """Bytes that are taken on each card on top of the budget, once the weights are placed."""
        taken = self.account.outside_bytes
        if self._is_beside_outside:
            taken += max(map(self._beside_bytes, range(len(self.weights.sizes))))
        if placement is None:
            return taken
        pool = 0 if self.generation.free_compared else max(placement.static_pool_bytes, default=0)
        memory = self.inputs.spec.memory
        asked = placement.kv_offload_bytes or int((memory.kv_offload_gib or 0) * GIB)
        tiered = memory.kv_offload_dir is not None
        return taken + pool + kv_page_table_bytes(asked, self.inputs.facts, len(self.gpus), tiered=tiered)

    def free_utilization(self, outside_bytes: int) -> float:
        """The largest gpu_memory_utilization that the free memory of every card allows, to a thousandth."""
        share = self.account.free_share(outside_bytes)
        return max(0.001, min(HIGHEST_UTILIZATION, math.floor(share * 1000) / 1000))

    @cached_property
    def wanted_cache_bytes(self) -> tuple[int, ...]:
        """Bytes of the least cache of each stage for the target context and requests, with room for the estimate's
        error."""
        requests = (cache.request_bytes(self.target.request_tokens, self.target.requests) for cache in self.caches)
        return tuple(
            max(context, wanted + self.account.doubt.below)
            for context, wanted in zip(self.context_cache_bytes, requests, strict=True)
        )

    @cached_property
    def context_cache_bytes(self) -> tuple[int, ...]:
        """Bytes of the least cache of each stage with which one request of the target context can be served."""
        return tuple(cache.request_bytes(self.target.context) + self.account.doubt.below for cache in self.caches)

    def needs(self, utilization: float) -> tuple[Need, ...]:
        """The needs of each card, as a loader is told them; equal cards of a stage share one record."""
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
            budget_bytes=budget_bytes(self.gpus[card], utilization),
            weights_bytes=self.weights_bytes[card],
            movable_bytes=stage.layers_bytes,
            layer_bytes=stage.layer_bytes,
            fixed_bytes=self.account.fixed_bytes[card],
            kv_cache_bytes=self.wanted_cache_bytes[self.stage_of(card)],
            parameter_bytes=stage.parameter_bytes,
            active_layer_bytes=stage.active_layer_bytes,
            parameter_names=stage.parameter_names,
            active_parameter_bytes=stage.active_parameter_bytes,
            tower_bytes=stage.tower_bytes,
            context_cache_bytes=self.context_cache_bytes[self.stage_of(card)],
            pool_reserved=self.generation.free_compared,
        )


def kv_bytes(draft: Draft, budgets: Sequence[int], placement: Placement) -> tuple[int, ...]:
    """The KV cache that the engine will size on each card; negative where nothing is left."""
    reserved, account = draft.generation.free_compared, draft.account
    return tuple(
        budgets[card]
        - draft.kept_bytes(card, placement)
        - account.peak.bytes[card]
        - draft.other_bytes(card, placement)
        - account.reserved_graph_bytes
        - (placement.static_pool_bytes[card] if reserved else 0)
        for card in range(len(draft.gpus))
    )
