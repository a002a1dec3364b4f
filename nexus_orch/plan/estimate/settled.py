"""A draft with its weights placed: the KV cache as the engine will size it, and the context that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nexus_orch.contracts import Mechanism, Placement
from nexus_orch.plan.estimate.draft import Draft, kv_bytes
from nexus_orch.plan.estimate.host import estimate_host, lacks_ram
from nexus_orch.plan.estimate.pace import Pace
from nexus_orch.types import GIB, Choice, GpuEstimate, HostEstimate

CONTEXT_STEP = 256
"""A derived context that is shorter than the model's is cut to a multiple of this."""


@dataclass(frozen=True)
class Settled:
    """A draft with its weights placed. Lists are by card."""

    draft: Draft
    placement: Placement
    utilization: Choice
    budgets: tuple[int, ...]
    kv: tuple[int, ...]
    """Bytes that the engine will have for the KV cache; negative where nothing is left."""

    @property
    def offloads(self) -> bool:
        return any(self.placement.offloaded_bytes)

    @property
    def mechanism(self) -> Mechanism | None:
        """The mechanism that brings the offloaded weights to the cards; None where nothing is offloaded, or the loader
        does not say."""
        return self.placement.mechanism if self.offloads else None

    @cached_property
    def pace(self) -> Pace:
        """The speed of the run."""
        return Pace(self.draft, self.placement)

    @cached_property
    def host(self) -> HostEstimate:
        """The host RAM that the run takes."""
        draft = self.draft
        return estimate_host(draft.inputs, self.placement, len(draft.gpus), sum(draft.weights_bytes))

    @cached_property
    def fits_host(self) -> bool:
        return not lacks_ram(self.draft.inputs, self.host)

    @cached_property
    def standing(self) -> tuple[bool, ...]:
        """A rank by what fits, the more important first: greater is better."""
        return self.fits_context and self.fits_host, self.is_comfortable, self.fits_context, self.fits_host

    @cached_property
    def speed(self) -> float | None:
        """Tokens per second: of one request where latency is the objective, else of the workload's requests together,
        as many of them at once as the KV cache holds. None where a bandwidth is not known."""
        work = self.draft.inputs.spec.workload
        if work.objective == "latency":
            seconds = self.pace.step_seconds()
            return 1 / seconds if seconds else None
        return self.pace.together(self.requests_at_once, work.input_tokens, work.output_tokens)

    @cached_property
    def worth(self) -> float:
        """A figure for the workload's objective, greater is better: the speed. Without bandwidths, rank by bytes moved
        over the bus (fewer is better)."""
        if self.speed is not None:
            return self.speed
        return 1 / (1 + sum(self.pace.moved_bytes(card) for card in range(len(self.draft.gpus))))

    @cached_property
    def num_blocks(self) -> int:
        """Blocks on every card: the engine takes the least over its ranks, or the pinned number."""
        return self._blocks(0)

    def _blocks(self, shift: int) -> int:
        """Blocks on every card if each had `shift` bytes more. A size or a number that is pinned does not shift."""
        pinned = self.draft.inputs.spec.memory.kv_cache.max_blocks
        if pinned is not None:
            return pinned
        if self.draft.inputs.spec.memory.kv_cache.size_gib is not None:
            shift = 0
        return min(
            (
                cache.num_blocks(least + shift)
                for cache, least in zip(self.draft.caches, self._least_kv, strict=True)
                if cache.block_bytes
            ),
            default=0,
        )

    @cached_property
    def _least_kv(self) -> tuple[int, ...]:
        """Bytes for the KV cache on the fullest card of each stage."""
        tensor = self.draft.parallelism.tensor_parallel
        return tuple(min(self.kv[start : start + tensor]) for start in range(0, len(self.kv), tensor))

    def holds(self, tokens: int, shift: int = 0) -> bool:
        """Whether the cache holds a context of `tokens` tokens."""
        blocks = self.num_blocks if shift == 0 else self._blocks(shift)
        return all(cache.holds(blocks, tokens) for cache in self.draft.caches)

    def longest(self, shift: int = 0) -> int:
        """The longest context that the cache holds, up to the model's own limit (or what is pinned beyond it)."""
        blocks = self.num_blocks if shift == 0 else self._blocks(shift)
        pinned = self.draft.inputs.spec.model.max_model_len or 0
        limit = max(self.draft.inputs.architecture.longest_context, pinned)
        return min(cache.longest(blocks, limit) for cache in self.draft.caches)

    @cached_property
    def surely_longest(self) -> int:
        """The longest context that fits even at the low end of the estimate."""
        return self.longest(-self.draft.account.doubt.below)

    @cached_property
    def room_bytes(self) -> tuple[int, ...]:
        """Bytes left for the KV cache on each card, whatever size of it is pinned."""
        return kv_bytes(self.draft, self.budgets, self.placement)

    @cached_property
    def holds_size(self) -> bool:
        """Whether there is room for a pinned memory.kv_cache.size_gib."""
        pinned = self.draft.inputs.spec.memory.kv_cache.size_gib
        return pinned is None or min(self.room_bytes) >= int(pinned * GIB)

    @cached_property
    def is_comfortable(self) -> bool:
        """Whether the target context fits even at the low end of the estimate."""
        sure = -self.draft.account.doubt.below
        return self.holds_size and self.holds(self.draft.target.context, sure) and not self.lacks_states

    @property
    def needed_context(self) -> int:
        """The context that the run cannot do without: the pinned one, else one request of the workload."""
        pinned = self.draft.inputs.spec.model.max_model_len
        return pinned if pinned is not None else self.draft.target.request_tokens

    @cached_property
    def fits_context(self) -> bool:
        return self.holds(self.needed_context) and not self.lacks_states

    @cached_property
    def lacks_states(self) -> bool:
        """Whether there are more requests in a batch than blocks of the KV cache, where each needs one for its state.
        Without CUDA graphs, requests just wait."""
        draft = self.draft
        is_asked = draft.generation.blocks_for_requests and not draft.eager and draft.inputs.architecture.is_hybrid
        return is_asked and draft.requests > self.num_blocks

    @cached_property
    def is_borderline(self) -> bool:
        """Whether what fits does not at the low end of the estimate, or what does not fit would at its high end."""
        doubt = self.draft.account.doubt
        return self.fits_context != self.holds(self.needed_context, -doubt.below if self.fits_context else doubt.above)

    @cached_property
    def max_model_len(self) -> Choice:
        """The choice of the context: the pinned one, else the model's limit, else the longest that surely fits."""
        limit, target = self.draft.inputs.architecture.longest_context, self.draft.target
        if self.draft.generation.profiles_prompt and self.holds(target.context):
            reason = (
                "this engine profiles a prompt of the whole context: a longer one takes memory and must be asked for"
            )
            return self._context(target.context, reason)
        sure = self.surely_longest
        if sure >= limit:
            return self._context(limit, "the model's own limit, and the KV cache holds it")
        if sure >= target.request_tokens:
            derived = max(sure // CONTEXT_STEP * CONTEXT_STEP, min(target.context, sure))
            return self._context(
                derived, f"the longest that the KV cache surely holds (the model's limit is {limit:,})"
            )
        if self.fits_context:
            return self._context(target.request_tokens, "one request of the workload; no longer one is sure to fit")
        return self._context(target.context, "what was to be provided; too little memory is left for it")

    def _context(self, derived: int, reason: str) -> Choice:
        return self.draft.inputs.fixed.choice("model.max_model_len", derived, reason)

    def tokens(self, shift: int = 0) -> int:
        """The KV cache tokens that the engine will print."""
        blocks = self.num_blocks if shift == 0 else self._blocks(shift)
        length = int(self.max_model_len.value)
        return min(cache.tokens(blocks, length) for cache in self.draft.caches)

    @property
    def concurrency(self) -> float:
        """Requests of max_model_len tokens that fit at once."""
        length = int(self.max_model_len.value)
        return min(cache.concurrency(self.num_blocks, length) for cache in self.draft.caches)

    @property
    def requests_at_once(self) -> int:
        """Requests of the workload that are served together: no more than the batch and the KV cache hold."""
        return max(1, min(self.draft.target.requests, self.draft.requests, self.requests_held))

    @property
    def requests_held(self) -> int:
        """Requests of the workload whose keys and values fit at once."""
        tokens = self.draft.target.request_tokens
        return int(min(cache.concurrency(self.num_blocks, tokens) for cache in self.draft.caches))

    @property
    def holds_concurrency(self) -> bool:
        """Whether the target number of requests fits at once."""
        return self.requests_held >= self.draft.target.requests

    def estimate(self, card: int) -> GpuEstimate:
        """The breakdown of one card in bytes. The parts that are counted inside the budget and the headroom add up to
        it."""
        draft, placement = self.draft, self.placement
        offloaded, pool = placement.offloaded_bytes[card], placement.static_pool_bytes[card]
        cache = draft.caches[draft.stage_of(card)]
        taken = min(max(0, self.kv[card]), self.num_blocks * cache.block_bytes) if cache.block_bytes else 0
        return GpuEstimate(
            total_bytes=draft.gpus[card].total_bytes,
            budget_bytes=self.budgets[card],
            weights_bytes=draft.kept_bytes(card, placement),
            offloaded_bytes=offloaded,
            kv_cache_bytes=taken,
            activation_bytes=draft.account.peak.bytes[card],
            non_torch_bytes=draft.other_bytes(card, placement),
            cuda_graph_bytes=draft.account.graph_bytes,
            static_pool_bytes=pool,
            headroom_bytes=self.kv[card] - taken,
            kept_bytes=draft.account.kept_bytes[card],
            page_table_bytes=placement.page_table_bytes[card] if placement.page_table_bytes else 0,
            index=draft.gpus[card].index,
        )
