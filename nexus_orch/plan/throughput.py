"""How fast requests will be answered, from the bytes that each step must read and the bus over which they come.

A step of the engine reads every weight that it uses once: from the card's memory, or, offloaded, over the bus. Prefetch
copies whole layers while the card computes; UVA reads in place what is used, and a long prompt makes it read the same
weights again. Constants and their measurements: data/measured.json, `throughput`; how well they hold: docs/hybrid.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.contracts import Placement
from nexus_orch.plan.accounting import measured
from nexus_orch.plan.draft import Draft
from nexus_orch.plan.kv_cache import CacheLayout
from nexus_orch.plan.weights import RankWeights
from nexus_orch.types import COPY_RATE, READ_RATE


@dataclass(frozen=True)
class Pace:
    """The speed of a run whose weights are placed. Every figure is None where a bandwidth is not known."""

    draft: Draft
    placement: Placement
    backend: str | None
    """uva or prefetch; None where nothing is offloaded."""

    def step_seconds(self, requests: int = 1) -> float | None:
        """One token for each of so many requests."""
        return self._over_stages(lambda card: self._card_step(card, requests))

    def bus_step_seconds(self) -> float | None:
        """The bus's part of one token of one request."""
        return self._over_stages(lambda card: self.bus_seconds(card, self.moved_bytes(card)))

    def prefill_seconds(self, requests: int, tokens: int) -> float | None:
        """Until the prompts of so many requests, of so many tokens each, are processed: in chunks of
        max_num_batched_tokens."""
        chunks, rest = divmod(requests * tokens, self.draft.batched_tokens)
        whole, last = self._over_chunk(self.draft.batched_tokens), self._over_chunk(rest)
        return None if whole is None or last is None else chunks * whole + last

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
    def _constants(self) -> dict[str, float]:
        return dict(measured("throughput"))

    def _over_chunk(self, tokens: int) -> float | None:
        """One pass of so many prompt tokens through all stages."""
        return self._over_stages(lambda card: self._chunk_seconds(card, tokens)) if tokens else 0.0

    def _over_stages(self, seconds_of: Callable[[int], float | None]) -> float | None:
        """The stages of a pipeline follow one another; the ranks of one stage work at the same time, and the slowest
        card decides. None when a card's time is not known."""
        tensor, total = self.draft.division.tensor_parallel, 0.0
        for start in range(0, tensor * self.draft.division.pipeline_parallel, tensor):
            alike = {self._kind(card): card for card in range(start, start + tensor)}
            times = [seconds_of(card) for card in alike.values()]
            if None in times:
                return None
            total += max(time for time in times if time is not None)
        return total

    def _kind(self, card: int) -> tuple[object, ...]:
        """Equal for ranks of one stage that take the same time."""
        gpu = self.draft.gpus[card]
        return gpu.name, self._bus_rate(card), self.placement.offloaded_bytes[card]

    def _card_step(self, card: int, requests: int) -> float | None:
        moved = self.moved_bytes(card, requests)
        bus = self.bus_seconds(card, moved)
        on_card = self._card_seconds(card, requests)
        if bus is None or on_card is None:
            return None
        if not moved:
            return max(on_card, self._launch_seconds(card))
        layers = len(self._stage(card).layer_bytes)
        if self.backend == "prefetch":
            # The buffer of a layer is free for the next one only when its layer has been computed.
            share = self.placement.offloaded_bytes[card] / max(1, sum(map(sum, self._stage(card).parameter_bytes)))
            exposed = self._constants["prefetch_exposed_seconds_per_layer"] * layers * min(1.0, share)
            return max(on_card, self._launch_seconds(card), bus + exposed)
        return bus + on_card + self._constants["uva_exposed_seconds_per_layer"] * layers

    def _chunk_seconds(self, card: int, tokens: int) -> float | None:
        """One pass over a part of a prompt; it takes no less than a step of one token."""
        step = self._card_step(card, tokens)
        flops = self.draft.gpus[card].fp16_flops
        if step is None or flops is None:
            return None
        layers = self.draft.inputs.architecture.layers
        share = len(self._stage(card).layer_bytes) / len(layers) / self.draft.division.tensor_parallel
        active = sum(layer.active_elements for layer in layers) * share
        compute = 2 * active * tokens / (flops * self._constants["prefill_efficiency"])
        offloaded = self.placement.offloaded_bytes[card]
        if not offloaded:
            return max(step, compute)
        if self.backend == "prefetch":
            return step + self._constants["prefill_exposed_compute"] * compute
        experts = self._expert_bytes(card)
        again = max(1.0, tokens / self._constants["uva_tokens_per_read"])
        reads = self.bus_seconds(card, int((offloaded - experts) * again + experts))
        return None if reads is None else max(compute, reads)

    def moved_bytes(self, card: int, requests: int = 1) -> int:
        """What one step brings over the bus: all that is offloaded when layers are copied; read in place, what is used
        of it. Each of the requests chooses its experts by itself."""
        offloaded = self.placement.offloaded_bytes[card]
        if self.backend == "prefetch" or not offloaded:
            return offloaded
        experts = self._expert_bytes(card)
        return int(offloaded - experts + experts * _used_share(self._expert_share, requests))

    def bus_seconds(self, card: int, moved: int) -> float | None:
        """So many bytes over the bus of that card, copied or read in place."""
        if not moved:
            return 0.0
        rate = self._bus_rate(card)
        return None if not rate else moved / rate

    def _bus_rate(self, card: int) -> float | None:
        gpu, wishes = self.draft.gpus[card], self.draft.inputs.wishes
        copied, read = gpu.host_bandwidth_bytes_per_second, None
        if wishes.spec.hardware.gpu.pcie_gbps is None:  # else it is the user's own figure
            copied = wishes.quantity(f"{COPY_RATE}.{gpu.index}") or copied
            read = wishes.quantity(f"{READ_RATE}.{gpu.index}")
        if self.backend == "prefetch":
            return copied
        return read or (None if copied is None else copied * self._constants["uva_read_over_copy"])

    def _expert_bytes(self, card: int) -> int:
        """Offloaded bytes of routed experts: what one token does not use of the offloaded bytes tells how many."""
        offloaded = self.placement.offloaded_bytes[card]
        if not self.placement.active_offloaded_bytes or self._expert_share >= 1:
            return 0
        unused = offloaded - self.placement.active_offloaded_bytes[card]
        return min(offloaded, int(unused / (1 - self._expert_share)))

    @cached_property
    def _expert_share(self) -> float:
        """The share of a layer's routed experts that one token uses; 1 for a dense model."""
        shares = [
            parameter.active_copies / parameter.copies
            for layer, _ in self.draft.inputs.architecture.distinct_layers
            for parameter in layer.parameters
            if parameter.active_copies is not None
        ]
        return max(shares, default=1.0)

    def _card_seconds(self, card: int, requests: int) -> float | None:
        """One pass over the weights and the caches that lie on the card."""
        gpu, stage = self.draft.gpus[card], self._stage(card)
        if gpu.memory_bandwidth_bytes_per_second is None:
            return None
        whole, active = sum(map(sum, stage.parameter_bytes)), sum(stage.active_layer_bytes)
        experts = (whole - active) / (1 - self._expert_share) if self._expert_share < 1 else 0.0
        used = whole - experts + experts * _used_share(self._expert_share, requests)
        in_place = self.moved_bytes(card, requests) if self.backend == "uva" else 0
        work = self.draft.inputs.spec.workload
        length = min(work.input_tokens + work.output_tokens // 2, self.draft.want.request_tokens)
        caches = min(requests, self.draft.requests) * _cache_bytes(self.draft.caches[self.draft.stage_of(card)], length)
        bandwidth = gpu.memory_bandwidth_bytes_per_second * self._constants["hbm_efficiency"]
        return (max(0.0, used - in_place) + stage.active_fixed_bytes + caches) / bandwidth

    def _launch_seconds(self, card: int) -> float:
        """What the processor takes to start the kernels of one step."""
        layers = len(self._stage(card).layer_bytes)
        if self.draft.eager:
            return self._constants["eager_seconds"] + self._constants["eager_seconds_per_layer"] * layers
        return self._constants["graph_seconds_per_layer"] * layers

    def _stage(self, card: int) -> RankWeights:
        return self.draft.weights.stages[self.draft.stage_of(card)]


def _used_share(share: float, requests: int) -> float:
    """The share of the experts that so many tokens use, each choosing evenly and by itself."""
    return 1 - (1 - share) ** max(1, requests)


def _cache_bytes(layout: CacheLayout, tokens: int) -> int:
    """The cache that one request of that length reads for each token."""
    return layout.request_blocks(tokens) * layout.block_bytes
