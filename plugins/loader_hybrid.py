"""The loader hybrid: as few weights in host RAM as leave room for the wanted context and concurrency.

What vLLM's offloaders move, and in which grain, is in `nexus_orch.plan.offload`; here is what is offered of it. Which
offer is taken follows from what the planner predicts of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nexus_orch.contracts import Loader, Need, Placement, Refusal, Rule
from nexus_orch.errors import Problem
from nexus_orch.hookspecs import hookimpl
from nexus_orch.plan import choose_architecture, choose_scheme
from nexus_orch.plan.asked.fixed import pinned_choice
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.plan.offload.kv_tier import NO_TIER, can_offload_kv, choose_kv_tier
from nexus_orch.plan.offload.parameters import EXPERTS, RankParts, make_ranks, missing_bytes
from nexus_orch.plan.offload.pins import judge_pins
from nexus_orch.plan.offload.placements import (
    choose_uva_gib,
    place_by_prefetch,
    place_by_uva,
    place_nothing,
)
from nexus_orch.plan.offload.prefetch import STEP, Grouping, choose_grouping, choose_largest_grouping
from nexus_orch.plan.release.offloading import has_prefetch, moves_towers, pinned_copies
from nexus_orch.plan.release.pinning import choose_pinning
from nexus_orch.releases import host_ram
from nexus_orch.types import GIB, Choice, Facts, RunSpec

SHARES = (1.0, 0.5, 0.25, 0.125, 0.0)
"""Of the requests that are wanted at once, those for which weights leave the cards."""


class Hybrid(Loader):
    """Weights beyond the room on the card live in host RAM and are read over the bus."""

    name = "hybrid"
    order = 1
    profile = "hybrid"
    rules = (
        Rule(
            ("memory.cpu_offload_gib", "memory.strategy"),
            lambda spec: spec.memory.cpu_offload_gib == 0 and not spec.memory.kv_offload_gib,
            "the strategy shares the load with host RAM",
            "choose memory=vram_only, or memory.cpu_offload_gib=auto",
        ),
        Rule(
            ("memory.strategy", "hardware.gpu.count"),
            lambda spec: spec.hardware.gpu.count == 0,
            "without a GPU all weights are in host RAM already",
            "choose memory=auto",
        ),
    )

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        engine = facts.engine
        if engine.device == "cpu":
            return _refuse("on a CPU engine all weights are in host RAM anyway")
        if not host_ram.offloads_weights(engine.version):
            able = f"{host_ram.offloads_weights.span} can"
            return _refuse(f"vLLM {engine.version} cannot keep weights in host RAM ({able})")
        if facts.machine.is_wsl and host_ram.weights_need_pinning(engine.version):
            return _refuse(f"vLLM {engine.version} needs pinned memory to offload, which WSL does not give it")
        if spec.memory.offload_backend == "prefetch" and not has_prefetch(facts):
            return Refusal(
                f"vLLM {engine.version} has no prefetch offloader ({host_ram.prefetches.span} have)",
                "memory.offload_backend",
                f"memory.offload_backend=auto, or vLLM {host_ram.prefetches.since} or later",
                "offload_unsupported",
            )
        if spec.memory.offload_backend == "uva" and _is_refused_in_place(facts):
            return Refusal(
                f"vLLM {engine.version} reads no weights in place of models with Mamba or linear-attention layers",
                "memory.offload_backend",
                f"memory.offload_backend=auto, or vLLM {host_ram.refuses_states_by_uva.before} or later",
                "offload_unsupported",
            )
        return _refuse_model(spec, facts)

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        case = _Case(needs, spec, facts)
        return [_with_kv_tier(placement, needs, spec, facts) for placement in _place_weights(case)]


def _refuse(reason: str) -> Refusal:
    """A refusal for a lack of the engine, which a launch would show as a failure of its own."""
    return Refusal(reason, cause="offload_unsupported")


def _refuse_model(spec: RunSpec, facts: Facts) -> Refusal | None:
    """What older releases cannot offload."""
    version = facts.engine.version
    if host_ram.refuses_states(version) and choose_architecture(facts.model).is_hybrid:
        return _refuse(f"vLLM {version} refuses to offload models with Mamba or linear-attention layers")
    if host_ram.keeps_repacked_weights(version):
        return None
    scheme = choose_scheme(facts.model.config, spec.model.quantization, version=version)
    if isinstance(scheme, Scheme) and scheme.method is not None:
        return _refuse(f"vLLM {version} moves repacked {scheme.method} weights back to the card")
    return None


def _is_refused_in_place(facts: Facts) -> bool:
    """Whether the release ends the start of this model when UVA offloads its weights."""
    return host_ram.refuses_states_by_uva(facts.engine.version) and choose_architecture(facts.model).is_hybrid


@dataclass(frozen=True)
class _Case:
    """What is to be placed."""

    needs: Sequence[Need]
    spec: RunSpec
    facts: Facts

    @property
    def pinned_gib(self) -> float | None:
        return self.spec.memory.cpu_offload_gib

    @property
    def pinned_params(self) -> tuple[str, ...] | None:
        return self.spec.memory.offload_params

    @property
    def has_experts(self) -> bool:
        return any(sum(need.active_layer_bytes) < need.movable_bytes * 0.9 for need in self.needs)

    def wants(self) -> list[list[int]]:
        """What each card lacks: for all requests that are wanted at once, for fewer, and for one alone. Where only
        further requests lack room and the release can keep their KV blocks in host RAM, no weights leave the card for
        them."""
        whole, one = self._missing(1.0), self._missing(0.0)
        if max(whole) > max(one) == 0 and self.spec.memory.kv_offload_gib != 0 and can_offload_kv(self.facts):
            return [one]
        found: list[list[int]] = []
        for share in SHARES:
            missing = self._missing(share)
            if missing not in found:
                found.append(missing)
        return found

    def _missing(self, share: float) -> list[int]:
        """With one request of the wanted context, and so much of what all wanted requests take beyond it."""
        return [
            missing_bytes(
                need,
                need.context_cache_bytes + math.ceil(share * (need.kv_cache_bytes - need.context_cache_bytes)),
            )
            for need in self.needs
        ]

    def ranks(self, wanted: Sequence[str], missing: Sequence[int], *, towers: bool = False) -> tuple[RankParts, ...]:
        pinning = choose_pinning(self.facts.engine, self.spec.engine.env)
        return make_ranks(self.needs, wanted, missing, pinning, moves_towers=towers and moves_towers(self.facts))


def _place_weights(case: _Case) -> Iterator[Placement]:
    """Copied ahead first: batches and prompts that are longer than planned hurt that less than reading in place."""
    pinned = case.pinned_gib
    wants = case.wants() if pinned is None else [[0] * len(case.needs)]
    for missing in wants:
        if not max(missing) and not pinned:
            fits = "everything fits on the card" if missing == wants[0] else "all weights fit on the card"
            reason = fits if pinned is None else "pinned to nothing"
            yield replace(place_nothing(len(case.needs)), choices=(_choice(case, "cpu_offload_gib", 0.0, reason),))
            continue
        problems = _judge_pins(case, missing)
        for placement in _offload(case, missing):
            yield replace(placement, problems=problems) if problems else placement


def _offload(case: _Case, missing: Sequence[int]) -> Iterator[Placement]:
    backend, chooses = case.spec.memory.offload_backend, has_prefetch(case.facts)
    prefetch = _by_prefetch(case, missing) if chooses and backend != "uva" else None
    if prefetch is not None:
        yield prefetch
    if prefetch is None or (backend != "prefetch" and not _is_refused_in_place(case.facts)):
        yield _by_uva(case, missing)


def _judge_pins(case: _Case, missing: Sequence[int]) -> tuple[Problem, ...]:
    if case.pinned_gib is None and case.pinned_params is None:
        return ()
    ranks = case.ranks(case.pinned_params or (), missing, towers=True)
    return judge_pins(case.needs, ranks, case.spec, case.facts)


def _by_uva(case: _Case, missing: Sequence[int]) -> Placement:
    """Routed experts first, where the release can choose and they are enough: a token reads only a few of them."""
    ranks, wanted = case.ranks(case.pinned_params or (), missing, towers=True), case.pinned_params
    if wanted is None and case.has_experts and has_prefetch(case.facts):
        experts = case.ranks(EXPERTS, missing)
        if all(rank.has_enough and rank.bytes >= max(1, int((case.pinned_gib or 0) * GIB)) for rank in experts):
            ranks, wanted = experts, EXPERTS
    gib = choose_uva_gib(ranks, case.pinned_gib)
    placement = place_by_uva(ranks, gib)
    most = max(placement.offloaded_bytes) / GIB
    is_enough = all(rank.has_enough for rank in ranks)
    why = "the least that makes room on the fullest card" if is_enough else "all that may leave, and not enough"
    reason = f"{why} ({most:.2f} GiB in whole parameters)"
    choices = [
        *_backend_choice(case, "uva", "only what is used comes over the bus"),
        _choice(case, "cpu_offload_gib", gib, reason),
    ]
    if wanted:
        why = "a token reads only some of the routed experts: they wait in host RAM, all else stays on the card"
        choices.append(_choice(case, "offload_params", wanted, why))
    honours = () if has_prefetch(case.facts) else ("memory.offload_backend",)  # such a release has no name for it
    return replace(placement, choices=tuple(choices), honours=honours)


def _by_prefetch(case: _Case, missing: Sequence[int]) -> Placement | None:
    """The least that makes room, of whole layers or of their experts only, else as much as can be freed; None when no
    layer has anything to move."""
    amount = None if case.pinned_gib is None else int(case.pinned_gib * GIB)
    copies = pinned_copies(case.facts)
    pinned = case.pinned_params
    tried = [pinned] if pinned is not None else [(), EXPERTS] if case.has_experts else [()]
    parts = [(wanted, case.ranks(wanted, missing)) for wanted in tried]
    parts = [(wanted, ranks) for wanted, ranks in parts if any(rank.bytes for rank in ranks)]
    if not parts:
        return None
    found = [
        (grouping, wanted, ranks)
        for wanted, ranks in parts
        if (grouping := choose_grouping(ranks, amount_bytes=amount, copies=copies)) is not None
    ]
    if found:
        grouping, wanted, ranks = min(found, key=lambda entry: entry[0].bytes)
        reason = "{} of each card's layers in host RAM is the least that makes room"
        if case.pinned_gib is not None:
            reason = "{}: the fewest whole layers with the pinned amount"
    else:
        wanted, ranks = parts[0]
        grouping = choose_largest_grouping(ranks, copies=copies)
        reason = "{}: no grouping of layers frees more, and it is not enough"
    placement = place_by_prefetch(ranks, grouping, copies=copies)
    total = f"{max(moved.bytes for moved in grouping.moved) / GIB:.2f} GiB"
    return replace(placement, choices=_prefetch_choices(case, grouping, wanted, reason.format(total)))


def _prefetch_choices(case: _Case, grouping: Grouping, wanted: tuple[str, ...], reason: str) -> tuple[Choice, ...]:
    choices = [
        *_backend_choice(case, "prefetch", "each weight is brought once for a batch or prompt, ahead of use"),
        Choice("memory.prefetch.group_size", grouping.size, "derived", reason),
        Choice("memory.prefetch.num_in_group", grouping.chosen, "derived", reason),
        Choice("memory.prefetch.step", STEP, "derived", "one layer ahead keeps the buffer on the card smallest"),
    ]
    if wanted:
        why = "only the layers' experts are copied: so the least is moved"
        choices.append(_choice(case, "offload_params", wanted, why))
        choices.append(Choice("memory.prefetch.params", wanted, "derived", "prefetch has an option of its own for it"))
    return tuple(choices)


def _backend_choice(case: _Case, backend: str, reason: str) -> tuple[Choice, ...]:
    """The back end of a placement; releases before 0.19.1 have only UVA and no name for it."""
    return (_choice(case, "offload_backend", backend, reason),) if has_prefetch(case.facts) else ()


def _choice(case: _Case, key: str, derived: object, reason: str) -> Choice:
    pinned = getattr(case.spec.memory, key)
    if pinned is not None and pinned != "auto":
        return pinned_choice(case.spec, f"memory.{key}")
    return Choice(f"memory.{key}", derived, "derived", reason)


def _with_kv_tier(placement: Placement, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Placement:
    """Weights that leave a card make room for all requests; else their blocks may."""
    if any(placement.offloaded_bytes) and spec.memory.kv_offload_gib is None and spec.memory.kv_offload_dir is None:
        return placement
    tier = choose_kv_tier(needs, spec, facts)
    if tier == NO_TIER:
        return placement
    return replace(
        placement,
        kv_offload_bytes=tier.bytes,
        choices=(*placement.choices, *tier.choices),
        notes=(*placement.notes, *tier.notes),
    )


@hookimpl
def nexus_loaders() -> Sequence[Loader]:
    return [Hybrid()]
