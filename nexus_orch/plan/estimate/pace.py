"""How fast requests will be answered, from the bytes that each pass must read and the bus over which they come.

A pass of the engine reads every weight that it uses once: from the card's memory, or, offloaded, over the bus. Prefetch
copies a layer while the layers before it are computed; UVA reads in place what is used, and a long prompt makes it read
the same weights again. Constants and their measurements: data/measured.json, `throughput`; how well they hold:
docs/hybrid.md and docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from nexus_orch.contracts import Placement
from nexus_orch.plan.estimate.bus_rates import BusRates
from nexus_orch.plan.estimate.draft import Draft
from nexus_orch.plan.release.accounting import measured
from nexus_orch.plan.release.kv_cache import CacheLayout
from nexus_orch.plan.release.weights import RankWeights


@dataclass(frozen=True)
class Pace:
    """The speed of a run whose weights are placed. Every figure is None where a bandwidth is not known."""

    draft: Draft
    placement: Placement
    backend: str | None
    """uva or prefetch; None where nothing is offloaded."""

    def step_seconds(self, requests: int = 1) -> float | None:
        """One token for each of so many requests."""
        return self._over_stages(lambda card: self._pass_seconds(card, requests, requests))

    def bus_step_seconds(self) -> float | None:
        """The bus's part of one token of one request."""
        return self._over_stages(lambda card: self.bus_seconds(card, 1))

    def prefill_seconds(self, requests: int, tokens: int) -> float | None:
        """Until the prompts of so many requests that come at once, of so many tokens each, are processed: in chunks of
        max_num_batched_tokens. The first request is taken up alone, and the others wait for its pass."""
        first = self._over_chunks(tokens)
        rest = self._over_chunks((requests - 1) * tokens) if requests > 1 else 0.0
        return None if first is None or rest is None else first + rest

    def first_token_seconds(self, tokens: int) -> float | None:
        """The first token of one request alone."""
        prefill = self.prefill_seconds(1, tokens)
        return None if prefill is None else prefill + float(self._constants["request_seconds"])

    def together(self, requests: int, input_tokens: int, output_tokens: int) -> float | None:
        """Tokens per second of so many requests that come at once, prompts included."""
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
        """One pass of so many prompt tokens through all stages."""
        return self._over_stages(lambda card: self._pass_seconds(card, tokens, 1)) if tokens else 0.0

    def _over_stages(self, seconds_of: Callable[[int], float | None]) -> float | None:
        """The stages of a pipeline follow one another; the ranks of one stage work at the same time, and the slowest
        card decides. None when a card's time is not known."""
        total = 0.0
        for cards in self._different_cards:
            times = [seconds_of(card) for card in cards]
            if None in times:
                return None
            total += max(time for time in times if time is not None)
        return total

    @cached_property
    def _different_cards(self) -> tuple[tuple[int, ...], ...]:
        """Of each pipeline stage, one card of every kind."""
        tensor = self.draft.division.tensor_parallel
        starts = range(0, self.draft.division.ranks, tensor)
        stages = ({self._kind(card): card for card in range(start, start + tensor)} for start in starts)
        return tuple(tuple(alike.values()) for alike in stages)

    def _kind(self, card: int) -> tuple[object, ...]:
        """Equal for ranks of one stage that take the same time."""
        return self.draft.gpus[card].name, self._rates(card), self.placement.offloaded_bytes[card]

    def _pass_seconds(self, card: int, tokens: int, requests: int) -> float | None:
        """One pass of so many tokens, of so many requests, on that card."""
        memory, bus = self._memory_seconds(card, tokens, requests), self.bus_seconds(card, tokens)
        arithmetic = self._arithmetic_seconds(card, tokens) if tokens > requests else 0.0
        if memory is None or bus is None or arithmetic is None:
            return None
        launch = self._launch_seconds(card)
        if not self.placement.offloaded_bytes[card]:
            return max(memory, arithmetic, launch)
        if self.backend == "prefetch":
            captured = not self.draft.eager and tokens <= requests
            copied = self._prefetched_seconds(card, max(memory, arithmetic), captured=captured)
            return None if copied is None else max(launch, copied)
        # A product that reads in place computes meanwhile; all others come before and after it.
        in_place = self.moved_bytes(card, tokens) / max(1.0, self._used_bytes(card, tokens))
        rest = max(memory, arithmetic * (1 - in_place)) + self._routing_seconds(card)
        return max(launch, max(bus, arithmetic * in_place) + rest)

    def _prefetched_seconds(self, card: int, compute: float, *, captured: bool) -> float | None:
        """Layers whose copies share one buffer: the next copy begins when the copied layer before it has been computed,
        and goes on while layers that stay on the card are (offloader/prefetch.py of 0.25.1, one layer ahead).

        The first copy of a pass goes on through the end of the pass before; where a pass is a CUDA graph, the graph
        ends only when that copy has (compilation/cuda_graph.py: join_after_forward).
        """
        sizes, rate = self._copied_layers(card), self._rates(card).copy
        if not rate:
            return None
        each = max(compute / len(sizes), self._constants["layer_seconds"])
        places = [place for place, size in enumerate(sizes) if size]
        ahead, behind = places[0], len(sizes) - 1 - places[-1]
        first = sizes[places[0]] / rate
        if captured:
            seconds = max(first, behind * each) + (ahead + 1) * each
        else:
            seconds = max(first, (behind + ahead) * each) + each
        for before, place in pairwise(places):
            seconds += max(sizes[place] / rate, (place - before - 1) * each) + each
        return max(compute, seconds)

    def _copied_layers(self, card: int) -> tuple[int, ...]:
        """What is copied, layer by layer; spread evenly where the loader does not say."""
        if self.placement.copied_layer_bytes:
            return self.placement.copied_layer_bytes[card]
        count = len(self._stage(card).layer_bytes)
        return (-(-self.placement.offloaded_bytes[card] // count),) * count

    def moved_bytes(self, card: int, tokens: int = 1) -> int:
        """What one pass brings over the bus, each weight counted once: all that is offloaded when layers are copied;
        read in place, what is used of it. Each token chooses its experts by itself."""
        offloaded = self.placement.offloaded_bytes[card]
        if self.backend == "prefetch" or not offloaded:
            return offloaded
        experts = self._expert_bytes[card]
        return int(offloaded - self._idle_bytes(card) - experts + experts * _used_share(self._expert_share, tokens))

    def bus_seconds(self, card: int, tokens: int) -> float | None:
        """What a pass of so many tokens brings over the bus of that card, copied or read in place."""
        if not self.placement.offloaded_bytes[card]:
            return 0.0
        rates, moved = self._rates(card), self.moved_bytes(card, tokens)
        if self.backend == "prefetch":
            return None if not rates.copy else moved / rates.copy
        # Tokens are dealt out to experts, so that an expert's product has few of them.
        experts = self._expert_bytes[card]
        used = int(experts * _used_share(self._expert_share, tokens))
        dense = rates.read_seconds(moved - used, tokens)
        sparse = rates.read_seconds(used, max(1, int(tokens * self._expert_share)))
        return None if dense is None or sparse is None else dense + sparse

    def _rates(self, card: int) -> BusRates:
        """Each matrix has a rate of its own: what was measured of a layer holds where whole layers are read."""
        return (self.draft.part_bus_rates if self._chooses_parts else self.draft.bus_rates)[card]

    @cached_property
    def _chooses_parts(self) -> bool:
        return any(choice.key == "memory.offload_params" for choice in self.placement.choices)

    @cached_property
    def _expert_bytes(self) -> tuple[int, ...]:
        """Offloaded bytes of routed experts: what one token does not use of the offloaded bytes tells how many."""
        placement, found = self.placement, []
        if not placement.active_offloaded_bytes or self._expert_share >= 1:
            return (0,) * len(placement.offloaded_bytes)
        for card, active in enumerate(placement.active_offloaded_bytes):
            read = placement.offloaded_bytes[card] - self._idle_bytes(card)
            found.append(min(read, int((read - active) / (1 - self._expert_share))))
        return tuple(found)

    def _idle_bytes(self, card: int) -> int:
        """What lies in host RAM and is not read by tokens of text."""
        return self.placement.idle_bytes[card] if self.placement.idle_bytes else 0

    @cached_property
    def _expert_share(self) -> float:
        return self.draft.inputs.architecture.expert_share

    def _used_bytes(self, card: int, tokens: int) -> float:
        """The weights of the layers of one card that so many tokens use."""
        stage = self._stage(card)
        whole, active = stage.plain_bytes, stage.active_bytes
        experts = (whole - active) / (1 - self._expert_share) if self._expert_share < 1 else 0.0
        return whole - experts + experts * _used_share(self._expert_share, tokens)

    def _memory_seconds(self, card: int, tokens: int, requests: int) -> float | None:
        """The weights and the caches that a pass reads from the card's memory, once, and what its kernels wait for one
        another; weights that are copied ahead are read there, too."""
        gpu, stage = self.draft.gpus[card], self._stage(card)
        if gpu.memory_bandwidth_bytes_per_second is None:
            return None
        read = self.moved_bytes(card, tokens) if self.backend == "uva" else 0
        work = self.draft.inputs.spec.workload
        length = min(work.input_tokens + work.output_tokens // 2, self.draft.want.request_tokens)
        caches = min(requests, self.draft.requests) * _cache_bytes(self.draft.caches[self.draft.stage_of(card)], length)
        held = max(0.0, self._used_bytes(card, tokens) - read) + stage.active_fixed_bytes + caches
        reading = held / (gpu.memory_bandwidth_bytes_per_second * self._constants["hbm_efficiency"])
        return reading + len(stage.layer_bytes) * self._constants["waiting_seconds_per_layer"]

    def _arithmetic_seconds(self, card: int, tokens: int) -> float | None:
        """The layers' products for so many tokens."""
        flops, layers = self.draft.gpus[card].fp16_flops, self.draft.inputs.architecture.layers
        if flops is None:
            return None
        share = len(self._stage(card).layer_bytes) / len(layers) / self.draft.division.tensor_parallel
        operations = 2 * self.draft.inputs.architecture.active_elements * share * tokens
        efficiency = self._constants["prefill_efficiency" if self._expert_share == 1 else "expert_prefill_efficiency"]
        return operations / (flops * efficiency)

    def _routing_seconds(self, card: int) -> float:
        """What the many small kernels around routed experts take eager, beside what is read in place; a CUDA graph does
        not need it."""
        starts = self._expert_share < 1 and self.draft.eager
        return len(self._stage(card).layer_bytes) * self._constants["routing_seconds_per_layer"] if starts else 0.0

    def _launch_seconds(self, card: int) -> float:
        """What the processor takes to start the kernels of one pass, none of them where they are one CUDA graph. Those
        of routed experts are several times as many."""
        if not self.draft.eager:
            return 0.0
        layer = "eager_seconds_per_layer" if self._expert_share == 1 else "eager_seconds_per_expert_layer"
        return self._constants["eager_seconds"] + self._constants[layer] * len(self._stage(card).layer_bytes)

    def _stage(self, card: int) -> RankWeights:
        return self.draft.weights.stages[self.draft.stage_of(card)]


def _used_share(share: float, tokens: int) -> float:
    """The share of the experts that so many tokens use, each choosing evenly and by itself."""
    return 1 - (1 - share) ** max(1, tokens)


def _cache_bytes(layout: CacheLayout, tokens: int) -> int:
    """The cache that one request of that length reads for each token."""
    return layout.request_blocks(tokens) * layout.block_bytes
