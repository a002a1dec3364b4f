"""An example: a strategy that nexus_orch does not know, with a mechanism of its own.

`memory.strategy=pageable` keeps weights in plain host RAM that is not pinned. vLLM copies what a layer lacks to the
card when the layer runs, and forgets it afterwards (model_executor/offloader/uva.py: the way without UVA). It is slower
than the strategy hybrid and takes no pinned memory: for machines that pin little of their RAM (WSL, a container without
IPC_LOCK), and for releases whose pinned memory is rounded up to twice the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nexus_orch import hookimpl
from nexus_orch.contracts import CardPass, CardWork, Loader, Need, Placement, Refusal, Rule
from nexus_orch.errors import Problem
from nexus_orch.plan.asked.fixed import pinned_choice
from nexus_orch.plan.offload.parameters import RankParts, make_ranks, missing_bytes
from nexus_orch.plan.offload.pins import judge_pins
from nexus_orch.plan.offload.placements import choose_uva_gib, place_by_uva, place_nothing
from nexus_orch.plan.offload.uva import budget_bytes
from nexus_orch.plan.release.pinning import Pinning
from nexus_orch.releases.fact import Fact
from nexus_orch.types import Choice, Facts, Proof, RunSpec

copies_on_use = Fact(
    "weights are copied to the card when their layer runs, with both model runners",
    since="0.28.0",
    source="model_executor/offloader/uva.py: functional_call; v1/worker/gpu/model_runner.py: set_offloader",
)
AMOUNT = "memory.cpu_offload_gib"
PAGEABLE_SHARE = 0.5
"""Of the rate of a copy from pinned memory, what one from other memory reaches. An assumption, not a measurement: CUDA
takes it through a small pinned buffer of its own, so that each byte is copied twice."""


class CopyOnUse:
    """Nothing overlaps: the layer waits for its weights, and the copy for the layer before it."""

    proof = Proof(
        "copy_on_use",
        asked=AMOUNT,
        remedy=f"memory.strategy=hybrid, or tell the planner with {AMOUNT} what is wanted",
    )
    way = "copying when a layer runs"

    def moved_bytes(self, each: CardPass) -> int:
        """All of it, used or not; a vision tower only runs for pictures."""
        return each.offloaded_bytes - each.idle_bytes

    def bus_seconds(self, each: CardPass) -> float | None:
        return None if not each.bus.copy else self.moved_bytes(each) / (each.bus.copy * PAGEABLE_SHARE)

    def pass_seconds(self, each: CardPass, work: CardWork) -> float | None:
        bus = self.bus_seconds(each)
        compute = max(work.memory_seconds(), work.arithmetic_seconds, work.launch_seconds)
        return None if bus is None else bus + compute


@dataclass(frozen=True)
class Unpinned(Pinning):
    """Plain memory: a tensor takes its own size, and the card maps none of it."""

    def pinned_bytes(self, size: int) -> int:
        return size

    def kept_bytes(self, size: int) -> int:
        return 0

    def page_table_bytes(self, size: int) -> int:
        return 0


COPY_ON_USE = CopyOnUse()


class Pageable(Loader):
    """The least of the weights that makes room for all requests that are wanted at once, or for one of them."""

    name = "pageable"
    order = 50  # slower than what ships
    rules = (
        Rule(
            (AMOUNT, "memory.strategy"),
            lambda spec: spec.memory.cpu_offload_gib == 0,
            "the strategy keeps weights in host RAM",
            f"choose memory=vram_only, or {AMOUNT}=auto",
        ),
        Rule(
            ("memory.offload_backend", "memory.strategy"),
            lambda spec: spec.memory.offload_backend is not None,
            "the strategy has one way of its own",
            "choose memory=hybrid, or memory.offload_backend=auto",
        ),
        Rule(
            ("memory.offload_params", "memory.strategy"),
            lambda spec: spec.memory.offload_params is not None,
            "the strategy takes the parameters in order",
            "choose memory=hybrid, or memory.offload_params=auto",
        ),
    )

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        engine = facts.engine
        if engine.device == "cpu":
            return Refusal("on a CPU engine all weights are in host RAM anyway", cause="offload_unsupported")
        if not copies_on_use(engine.version):
            reason = f"vLLM {engine.version} does not copy weights when a layer runs ({copies_on_use.span} do)"
            return Refusal(reason, cause="offload_unsupported")
        if spec.memory.offload_backend is not None or spec.memory.offload_params is not None:
            return Refusal("memory.offload_backend and memory.offload_params ask for other ways")
        return None

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        return list(dict.fromkeys(self._places(needs, spec, facts)))

    def _places(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Iterator[Placement]:
        for caches in ([need.kv_cache_bytes for need in needs], [need.context_cache_bytes for need in needs]):
            missing = [missing_bytes(need, cache) for need, cache in zip(needs, caches, strict=True)]
            if not max(missing) and spec.memory.cpu_offload_gib is None:
                choice = Choice(AMOUNT, 0.0, "derived", "everything fits on the card")
                yield replace(place_nothing(len(needs)), choices=(choice,))
                continue
            largest = [max(map(sum, need.parameter_bytes)) for need in needs]  # copied to the card in its turn
            lacking = [size + copied for size, copied in zip(missing, largest, strict=True)]
            ranks = make_ranks(needs, (), lacking, Unpinned())
            yield self._place(ranks, spec, judge_pins(needs, ranks, spec, facts))

    def _place(self, ranks: Sequence[RankParts], spec: RunSpec, problems: tuple[Problem, ...]) -> Placement:
        gib = choose_uva_gib(ranks, spec.memory.cpu_offload_gib)
        placed = place_by_uva(ranks, gib)
        why = "the least that makes room on the fullest card, and for the largest layer that is copied to it"
        pinned = spec.memory.cpu_offload_gib is not None
        return replace(
            placed,
            static_pool_bytes=tuple(_largest_moved(rank, budget_bytes(gib)) for rank in ranks),
            pinned_bytes=0,
            problems=problems,
            mechanism=COPY_ON_USE,
            needs_eager="copies from memory that is not pinned cannot be part of a CUDA graph",
            choices=(
                pinned_choice(spec, AMOUNT) if pinned else Choice(AMOUNT, gib, "derived", why),
                _variable("VLLM_WEIGHT_OFFLOADING_DISABLE_UVA", "layers get copies instead of reading over the bus"),
                _variable("VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY", "the weights wait in memory that is not pinned"),
            ),
        )


def _largest_moved(rank: RankParts, budget: int) -> int:
    """What the card holds for a moment of the layer of which most was moved."""
    moved = largest = 0
    for layer in rank.layers:
        if moved >= budget:
            break
        moved, largest = moved + layer.bytes, max(largest, min(layer.bytes, budget - moved))
    return largest


def _variable(name: str, reason: str) -> Choice:
    return Choice(f"engine.env.{name}", "1", "derived", reason)


@hookimpl
def nexus_loaders() -> Sequence[Loader]:
    return [Pageable()]
