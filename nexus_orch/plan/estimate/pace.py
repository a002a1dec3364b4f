"""How fast requests will be answered, from the bytes that each pass must read and the bus over which they come.

A pass of the engine reads every weight that it uses once: from the card's memory, or, offloaded, over the bus. How the
two go together is for the mechanism to say that brings them (`Placement.mechanism`). Constants and their measurements:
data/measured.json, `throughput`; how well they hold: docs/hybrid.md and docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.contracts import CardPass, CardWork, Mechanism, Placement, used_share
from nexus_orch.plan.cards.interconnect import ALL_REDUCES_PER_LAYER, has_nvlink, nvlink_all_reduce_seconds
from nexus_orch.plan.estimate.bus_rates import BusRates
from nexus_orch.plan.estimate.draft import Draft
from nexus_orch.plan.release.kept import measured
from nexus_orch.plan.release.kv_cache import CacheLayout
from nexus_orch.plan.release.weights import RankWeights


@dataclass(frozen=True)
class Pace:
    """The speed of a run whose weights are placed. Every figure is None where a bandwidth is not known."""

    draft: Draft
    placement: Placement

    def step_seconds(self, requests: int = 1) -> float | None:
        """Seconds of one decode step: one token for each of `requests` requests."""
        return self._over_stages(lambda card: self._pass_seconds(card, requests, requests))

    def bus_step_seconds(self) -> float | None:
        """Seconds that the bus takes of one token of one request."""
        return self._over_stages(lambda card: self.bus_seconds(card, 1))

    def prefill_seconds(self, requests: int, tokens: int) -> float | None:
        """Seconds until the prompts of `requests` requests that come at once, of `tokens` tokens each, are processed:
        in chunks of max_num_batched_tokens. The first request is taken up alone, and the others wait for its pass."""
        first = self._over_chunks(tokens)
        rest = self._over_chunks((requests - 1) * tokens) if requests > 1 else 0.0
        return None if first is None or rest is None else first + rest

    def first_token_seconds(self, tokens: int) -> float | None:
        """Seconds until the first token of one request alone."""
        prefill = self.prefill_seconds(1, tokens)
        return None if prefill is None else prefill + float(self._constants["request_seconds"])

    def together(self, requests: int, input_tokens: int, output_tokens: int) -> float | None:
        """Tokens per second of `requests` requests that come at once, prompts included."""
        prefill, step = self.prefill_seconds(requests, input_tokens), self.step_seconds(requests)
        if prefill is None or step is None:
            return None
        seconds = float(self._constants["request_seconds"]) + prefill + max(0, output_tokens - 1) * step
        return requests * output_tokens / seconds

    @cached_property
    def _constants(self) -> Mapping[str, float]:
        found: Mapping[str, float] = measured("throughput")
        return found

    def _over_chunks(self, tokens: int) -> float | None:
        chunks, rest = divmod(tokens, self.draft.batched_tokens)
        whole, last = self._over_chunk(self.draft.batched_tokens) if chunks else 0.0, self._over_chunk(rest)
        return None if whole is None or last is None else chunks * whole + last

    def _over_chunk(self, tokens: int) -> float | None:
        """Seconds of one pass of `tokens` prompt tokens through all stages."""
        return self._over_stages(lambda card: self._pass_seconds(card, tokens, 1)) if tokens else 0.0

    def _over_stages(self, seconds_of: Callable[[int], float | None]) -> float | None:
        """Seconds of all stages: those of a pipeline follow one another; the ranks of one stage work at the same time,
        and the slowest card decides. None when a card's time is not known."""
        total = 0.0
        for cards in self._different_cards:
            times = [seconds_of(card) for card in cards]
            if None in times:
                return None
            total += max(time for time in times if time is not None)
        return total

    @cached_property
    def _different_cards(self) -> tuple[tuple[int, ...], ...]:
        """One card of every kind, for each pipeline stage."""
        tensor = self.draft.parallelism.tensor_parallel
        starts = range(0, self.draft.parallelism.ranks, tensor)
        stages = ({self._kind(card): card for card in range(start, start + tensor)} for start in starts)
        return tuple(tuple(alike.values()) for alike in stages)

    def _kind(self, card: int) -> tuple[object, ...]:
        """A key that is equal for ranks of one stage that take the same time."""
        return self.draft.gpus[card].name, self._rates(card), self.placement.offloaded_bytes[card]

    def _pass_seconds(self, card: int, tokens: int, requests: int) -> float | None:
        """Seconds of one pass of `tokens` tokens, of `requests` requests, on that card."""
        work = self._work(card, tokens, requests)
        if work is None:
            return None
        if not self.placement.offloaded_bytes[card]:
            return max(work.memory_seconds(), work.arithmetic_seconds, work.launch_seconds)
        return None if self._mechanism is None else self._mechanism.pass_seconds(self._pass(card, tokens), work)

    def moved_bytes(self, card: int, tokens: int = 1) -> int:
        """Bytes that one pass brings over the bus, each weight counted once. All that is offloaded where the loader
        does not say how it comes to the card."""
        if self._mechanism is None or not self.placement.offloaded_bytes[card]:
            return self.placement.offloaded_bytes[card]
        return self._mechanism.moved_bytes(self._pass(card, tokens))

    def bus_seconds(self, card: int, tokens: int) -> float | None:
        """Seconds of the bus of that card in a pass of `tokens` tokens."""
        if not self.placement.offloaded_bytes[card]:
            return 0.0
        return None if self._mechanism is None else self._mechanism.bus_seconds(self._pass(card, tokens))

    @property
    def _mechanism(self) -> Mechanism | None:
        return self.placement.mechanism

    def _pass(self, card: int, tokens: int) -> CardPass:
        return CardPass(
            tokens=tokens,
            offloaded_bytes=self.placement.offloaded_bytes[card],
            idle_bytes=self._idle_bytes(card),
            expert_bytes=self._expert_bytes[card],
            expert_share=self._expert_share,
            layer_bytes=self._offloaded_layers[card],
            bus=self._rates(card),
        )

    @cached_property
    def _offloaded_layers(self) -> tuple[tuple[int, ...], ...]:
        """Bytes of each layer that wait in host RAM, for each card; spread evenly where the loader does not say."""
        if self.placement.copied_layer_bytes:
            return self.placement.copied_layer_bytes
        counts = (len(self._stage(card).layer_bytes) for card in range(len(self.placement.offloaded_bytes)))
        return tuple((-(-size // n),) * n for size, n in zip(self.placement.offloaded_bytes, counts, strict=True))

    def _rates(self, card: int) -> BusRates:
        """Rates of that card's bus. Each matrix has a rate of its own: what was measured of a layer holds where whole
        layers are read."""
        return (self.draft.part_bus_rates if self._chooses_parts else self.draft.bus_rates)[card]

    @cached_property
    def _chooses_parts(self) -> bool:
        return any(choice.key == "memory.offload_params" for choice in self.placement.choices)

    @cached_property
    def _expert_bytes(self) -> tuple[int, ...]:
        """Offloaded bytes of routed experts: the part that one token does not use tells how many."""
        placement, found = self.placement, []
        if not placement.active_offloaded_bytes or self._expert_share >= 1:
            return (0,) * len(placement.offloaded_bytes)
        for card, active in enumerate(placement.active_offloaded_bytes):
            read = placement.offloaded_bytes[card] - self._idle_bytes(card)
            found.append(min(read, int((read - active) / (1 - self._expert_share))))
        return tuple(found)

    def _idle_bytes(self, card: int) -> int:
        """Bytes in host RAM that no token of text reads."""
        return self.placement.idle_bytes[card] if self.placement.idle_bytes else 0

    @cached_property
    def _expert_share(self) -> float:
        return self.draft.inputs.architecture.expert_share

    def _used_bytes(self, card: int, tokens: int) -> float:
        """Bytes of the weights of one card's layers that `tokens` tokens use."""
        stage = self._stage(card)
        whole, active = stage.plain_bytes, stage.active_bytes
        experts = (whole - active) / (1 - self._expert_share) if self._expert_share < 1 else 0.0
        return whole - experts + experts * used_share(self._expert_share, tokens)

    def _work(self, card: int, tokens: int, requests: int) -> CardWork | None:
        """What the pass takes on the card itself; None where its bandwidth or its speed is not known."""
        gpu, stage = self.draft.gpus[card], self._stage(card)
        arithmetic = self._arithmetic_seconds(card, tokens) if tokens > requests else 0.0
        if gpu.memory_bandwidth_bytes_per_second is None or arithmetic is None:
            return None
        work = self.draft.inputs.spec.workload
        length = min(work.input_tokens + work.output_tokens // 2, self.draft.target.request_tokens)
        caches = min(requests, self.draft.requests) * _cache_bytes(self.draft.caches[self.draft.stage_of(card)], length)
        waiting = self._constants["waiting_seconds_per_layer"] + self._exchange_seconds_per_layer
        return CardWork(
            in_graph=not self.draft.eager and tokens <= requests,
            weights_bytes=self._used_bytes(card, tokens),
            fixed_bytes=stage.active_fixed_bytes,
            cache_bytes=caches,
            bytes_per_second=gpu.memory_bandwidth_bytes_per_second * self._constants["hbm_efficiency"],
            waiting_seconds=len(stage.layer_bytes) * waiting,
            arithmetic_seconds=arithmetic,
            launch_seconds=self._launch_seconds(card),
            routing_seconds=self._routing_seconds(card),
            layer_seconds=self._constants["layer_seconds"],
        )

    @cached_property
    def _exchange_seconds_per_layer(self) -> float:
        """What the ranks of a stage wait for each other in a layer, over NVLink."""
        tensor = self.draft.parallelism.tensor_parallel
        joined = tensor > 1 and has_nvlink(self.draft.gpus[:tensor])
        return ALL_REDUCES_PER_LAYER * nvlink_all_reduce_seconds() if joined else 0.0

    def _arithmetic_seconds(self, card: int, tokens: int) -> float | None:
        """Seconds of the layers' products for `tokens` tokens."""
        flops, layers = self.draft.gpus[card].fp16_flops, self.draft.inputs.architecture.layers
        if flops is None:
            return None
        share = len(self._stage(card).layer_bytes) / len(layers) / self.draft.parallelism.tensor_parallel
        operations = 2 * self.draft.inputs.architecture.active_elements * share * tokens
        efficiency = self._constants["prefill_efficiency" if self._expert_share == 1 else "expert_prefill_efficiency"]
        return operations / (flops * efficiency)

    def _routing_seconds(self, card: int) -> float:
        """Seconds of the many small kernels around routed experts, eager, beside what is read in place; a CUDA graph
        does not need them."""
        starts = self._expert_share < 1 and self.draft.eager
        return len(self._stage(card).layer_bytes) * self._constants["routing_seconds_per_layer"] if starts else 0.0

    def _launch_seconds(self, card: int) -> float:
        """Seconds in which the processor starts the kernels of one pass; 0 where they are one CUDA graph. Those of
        routed experts are several times as many."""
        if not self.draft.eager:
            return 0.0
        layer = "eager_seconds_per_layer" if self._expert_share == 1 else "eager_seconds_per_expert_layer"
        return self._constants["eager_seconds"] + self._constants[layer] * len(self._stage(card).layer_bytes)

    def _stage(self, card: int) -> RankWeights:
        return self.draft.weights.stages[self.draft.stage_of(card)]


def _cache_bytes(layout: CacheLayout, tokens: int) -> int:
    """Bytes of cache that one request of that length reads for each token."""
    return layout.request_blocks(tokens) * layout.block_bytes
