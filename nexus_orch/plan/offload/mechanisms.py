"""How fast vLLM's offloaders are: weights that are read in place (UVA), and layers that are copied ahead (prefetch).

Constants and their measurements: data/measured.json, `throughput`; how well they hold: docs/hybrid.md and
docs/measurements.md.
"""

from __future__ import annotations

from itertools import pairwise

from nexus_orch.contracts import CardPass, CardWork
from nexus_orch.releases.host_ram import tells_what_it_offloads
from nexus_orch.types import Proof

_BACKEND = "memory.offload_backend"
_REMEDY = "set memory.offload_backend={}, or tell the planner with memory.cpu_offload_gib what is wanted"


class Uva:
    """A product reads the weights that it uses over the bus, and again for every tile of a long prompt's tokens."""

    proof = Proof(
        "uva",
        since=tells_what_it_offloads.since,
        asked="memory.cpu_offload_gib",
        instead=((_BACKEND, "prefetch"),),
        remedy=_REMEDY.format("prefetch"),
    )
    way = "reading in place"

    def moved_bytes(self, each: CardPass) -> int:
        """Bytes that the tokens use of the offloaded weights. Each token chooses its experts by itself."""
        return int(each.offloaded_bytes - each.idle_bytes - each.expert_bytes + each.used_expert_bytes)

    def bus_seconds(self, each: CardPass) -> float | None:
        """Seconds of dense weights and experts apart: tokens are dealt out to experts, so that an expert's product has
        few of them."""
        used = int(each.used_expert_bytes)
        dense = each.bus.read_seconds(self.moved_bytes(each) - used, each.tokens)
        sparse = each.bus.read_seconds(used, max(1, int(each.tokens * each.expert_share)))
        return None if dense is None or sparse is None else dense + sparse

    def pass_seconds(self, each: CardPass, work: CardWork) -> float | None:
        """Seconds of a pass. A product that reads in place computes meanwhile; all others come before and after it."""
        bus, moved = self.bus_seconds(each), self.moved_bytes(each)
        if bus is None:
            return None
        in_place = moved / max(1.0, work.weights_bytes)
        rest = max(work.memory_seconds(moved), work.arithmetic_seconds * (1 - in_place)) + work.routing_seconds
        return max(work.launch_seconds, max(bus, work.arithmetic_seconds * in_place) + rest)


class Prefetch:
    """Whole layers are copied to a buffer on the card while the layers before them are computed."""

    proof = Proof(
        "prefetch", since=tells_what_it_offloads.since, instead=((_BACKEND, "uva"),), remedy=_REMEDY.format("uva")
    )
    way = "copying ahead"

    def moved_bytes(self, each: CardPass) -> int:
        """Bytes of all offloaded weights, used or not."""
        return each.offloaded_bytes

    def bus_seconds(self, each: CardPass) -> float | None:
        return None if not each.bus.copy else each.offloaded_bytes / each.bus.copy

    def pass_seconds(self, each: CardPass, work: CardWork) -> float | None:
        """Layers whose copies share one buffer: the next copy begins when the copied layer before it has been computed,
        and goes on while layers that stay on the card are (offloader/prefetch.py of 0.25.1, one layer ahead).

        The first copy of a pass goes on through the end of the pass before; where a pass is a CUDA graph, the graph
        ends only when that copy has (compilation/cuda_graph.py: join_after_forward).
        """
        sizes, rate = each.layer_bytes, each.bus.copy
        if not rate:
            return None
        compute = max(work.memory_seconds(), work.arithmetic_seconds)
        one = max(compute / len(sizes), work.layer_seconds)
        places = [place for place, size in enumerate(sizes) if size]
        ahead, behind = places[0], len(sizes) - 1 - places[-1]
        first = sizes[places[0]] / rate
        if work.in_graph:
            seconds = max(first, behind * one) + (ahead + 1) * one
        else:
            seconds = max(first, (behind + ahead) * one) + one
        for before, place in pairwise(places):
            seconds += max(sizes[place] / rate, (place - before - 1) * one) + one
        return max(work.launch_seconds, compute, seconds)


UVA = Uva()
PREFETCH = Prefetch()
