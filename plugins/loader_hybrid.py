"""The loader hybrid: as few weights in host RAM as leave room for the wanted context and concurrency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from packaging.version import InvalidVersion, Version

from nexus_orch.contracts import Loader, Need, Placement
from nexus_orch.hookspecs import hookimpl
from nexus_orch.plan import choose_architecture, choose_scheme
from nexus_orch.plan.quantization import Scheme
from nexus_orch.types import GIB, KIB, Choice, Facts, RunSpec

UVA_TOKENS_PER_READ = 190
"""A prefill under UVA reads the offloaded weights again for about every so many tokens (vLLM 0.25.1 on an H100:
8 x 1,024 tokens took 44 times as long as one read of the 6.08 GiB)."""
LARGEST_GROUP = 24
"""Groups of layers are tried up to this size when the prefetch offloader is set up."""


@dataclass(frozen=True)
class _Grouping:
    """Prefetch: the last `chosen` of every `size` layers live in host RAM."""

    size: int
    chosen: int
    offloaded: tuple[int, ...]
    pools: tuple[int, ...]


class Hybrid:
    """Weights beyond the room on the card live in host RAM and are read over the bus."""

    name = "hybrid"

    def supports(self, spec: RunSpec, facts: Facts) -> str | None:
        version, engine = _version(facts), facts.engine
        if engine.device == "cpu":
            return "on a CPU engine all weights are in host RAM anyway"
        if version < Version("0.5.5"):
            return f"vLLM {engine.version} cannot keep weights in host RAM (0.5.5 and later can)"
        if facts.machine.is_wsl and version < Version("0.19"):
            return f"vLLM {engine.version} needs pinned memory to offload, which WSL does not give it"
        if spec.memory.offload_backend == "prefetch" and not _has_prefetch(facts):
            return f"vLLM {engine.version} has no prefetch offloader (0.19.1 and later have)"
        return _refuses_model(spec, facts) if version < Version("0.19.1") else None

    def place(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Placement:
        pinned = spec.memory.cpu_offload_gib
        missing = [
            max(0, need.weights_bytes + need.fixed_bytes + need.kv_cache_bytes - need.budget_bytes) for need in needs
        ]
        targets = [int(pinned * GIB)] * len(needs) if pinned is not None else missing
        if max(targets, default=0) == 0:
            nothing = (0,) * len(needs)
            reason = "everything fits on the card" if pinned is None else "pinned to nothing"
            return Placement(nothing, nothing, 0, 0, (_offload_choice(0.0, pinned, reason),))
        if _has_prefetch(facts) and _wants_prefetch(needs, spec):
            grouping = _choose_grouping(needs, targets)
            if grouping is not None:
                return _prefetch_placement(needs, grouping, spec)
        return _uva_placement(needs, max(targets), spec, facts)


def _version(facts: Facts) -> Version:
    try:
        return Version(facts.engine.version)
    except InvalidVersion:
        return Version("0.33.0")


def _refuses_model(spec: RunSpec, facts: Facts) -> str | None:
    """What releases before 0.19.1 cannot offload."""
    if _version(facts) >= Version("0.9") and choose_architecture(facts.model).is_hybrid:
        return f"vLLM {facts.engine.version} refuses to offload models with Mamba or linear-attention layers"
    scheme = choose_scheme(facts.model.config, spec.model.quantization)
    if isinstance(scheme, Scheme) and scheme.method is not None:
        return f"vLLM {facts.engine.version} moves repacked {scheme.method} weights back to the card"
    return None


def _has_prefetch(facts: Facts) -> bool:
    if facts.engine.flags:
        return facts.engine.flag("--offload-backend") is not None
    return _version(facts) >= Version("0.19.1")


@cache
def _pinned_size(size: int) -> int:
    """torch's pinned allocator gives the next power of two (aten/src/ATen/core/CachingHostAllocator.h); seen on an
    H100: 832 MiB for the tensors of a layer of 444.5 MiB."""
    return max(4 * KIB, 1 << (size - 1).bit_length()) if size > 0 else 0


def _pinned_sum(sizes: Iterable[int]) -> int:
    return sum(_pinned_size(size) for size in sizes)


def _uva_placement(needs: Sequence[Need], target: int, spec: RunSpec, facts: Facts) -> Placement:
    """UVA: whole parameters in the engine's order, from the first layer on, until the budget is reached."""
    pinned = spec.memory.cpu_offload_gib
    gib = pinned if pinned is not None else math.ceil(target / GIB * 100) / 100
    offloaded, host = [], 0
    for need in needs:
        moved = _greedy([size for layer in need.parameter_bytes for size in layer], int(gib * GIB))
        offloaded.append(sum(moved))
        host += _pinned_sum(moved)
    reason = f"the least that makes room on the fullest card ({max(offloaded) / GIB:.2f} GiB in whole parameters)"
    choices = [_offload_choice(gib, pinned, reason)]
    if _has_prefetch(facts):
        why = "one request reads only the experts that it uses, without copying the others"
        if spec.memory.offload_backend != "uva" and not _has_experts(needs):
            why = "layers cannot be grouped so that prefetching would leave enough room"
        choices.append(_backend_choice("uva", spec, why))
    return Placement(tuple(offloaded), (0,) * len(needs), host, host, tuple(choices))


def _greedy(sizes: Sequence[int], budget: int) -> list[int]:
    """vLLM's maybe_offload_to_cpu: a parameter moves as long as what has moved is below the budget."""
    totals = [0, *accumulate(sizes)]
    return [size for size, before in zip(sizes, totals, strict=False) if before < budget]


def _prefetch_placement(needs: Sequence[Need], grouping: _Grouping, spec: RunSpec) -> Placement:
    host = 0
    for need in needs:
        for index in _chosen_layers(len(need.layer_bytes), grouping.size, grouping.chosen):
            host += _pinned_sum(need.parameter_bytes[index])
    total = max(grouping.offloaded) / GIB
    reason = f"{total:.2f} GiB of each card's layers in host RAM is the least that makes room"
    why = "copying ahead of use hides part of the bus and reads each weight once for a whole batch or prompt"
    choices = (
        _backend_choice("prefetch", spec, why),
        Choice("memory.prefetch.group_size", grouping.size, "derived", reason),
        Choice("memory.prefetch.num_in_group", grouping.chosen, "derived", reason),
        Choice("memory.prefetch.step", 1, "derived", "one layer ahead keeps the buffer on the card smallest"),
    )
    return Placement(grouping.offloaded, grouping.pools, host, host, choices)


def _chosen_layers(count: int, size: int, chosen: int) -> list[int]:
    return [index for index in range(count) if index % size >= size - chosen]


def _choose_grouping(needs: Sequence[Need], targets: Sequence[int]) -> _Grouping | None:
    """The grouping that offloads least and leaves the missing room after its own buffer; None when there is none."""
    layers = [[sum(parameters) for parameters in need.parameter_bytes] for need in needs]
    share = max(target / max(1, sum(sizes)) for sizes, target in zip(layers, targets, strict=True))
    best: _Grouping | None = None
    for size in range(1, min(LARGEST_GROUP, max(map(len, layers))) + 1):
        # The layers left over after the last whole group stay on the card: fewer than the share can never suffice.
        for chosen in range(max(1, math.ceil(size * share)), size + 1):
            found = _try_grouping(layers, targets, size, chosen)
            if found is None:
                continue
            if best is None or sum(found.offloaded) < sum(best.offloaded):
                best = found
            break  # more layers of the same group size only offload more
    return best


def _try_grouping(layers: Sequence[Sequence[int]], targets: Sequence[int], size: int, chosen: int) -> _Grouping | None:
    offloaded, pools = [], []
    for sizes, target in zip(layers, targets, strict=True):
        moved = [sizes[index] for index in _chosen_layers(len(sizes), size, chosen)]
        pool = max(moved, default=0)
        if sum(moved) - pool < target:
            return None
        offloaded.append(sum(moved))
        pools.append(pool)
    return _Grouping(size, chosen, tuple(offloaded), tuple(pools))


def _has_experts(needs: Sequence[Need]) -> bool:
    return any(sum(need.active_layer_bytes) < 0.9 * sum(map(sum, need.parameter_bytes)) for need in needs)


def _wants_prefetch(needs: Sequence[Need], spec: RunSpec) -> bool:
    """Whether copying whole layers ahead serves this workload in less time than reading weights in place.

    Both move the offloaded bytes over the bus: prefetch all of them once for each step, UVA those that are used, and
    again for each tile of a long prompt.
    """
    backend = spec.memory.offload_backend
    if backend in ("uva", "prefetch"):
        return backend == "prefetch"
    work = spec.workload
    whole = sum(map(sum, needs[0].parameter_bytes))
    share = sum(needs[0].active_layer_bytes) / max(1, whole)
    used = 1 - (1 - min(1.0, share)) ** max(1, work.concurrency)
    prompt_tokens = work.input_tokens * max(1, work.concurrency)
    prefetch_reads = 1.0 + work.output_tokens
    uva_reads = max(1.0, prompt_tokens / UVA_TOKENS_PER_READ) + work.output_tokens * used
    return prefetch_reads <= uva_reads * 1.1


def _offload_choice(gib: float, pinned: float | None, reason: str) -> Choice:
    if pinned is not None:
        return Choice("memory.cpu_offload_gib", pinned, "pinned", "set by the user")
    return Choice("memory.cpu_offload_gib", gib, "derived", reason)


def _backend_choice(backend: str, spec: RunSpec, reason: str) -> Choice:
    if spec.memory.offload_backend == backend:
        return Choice("memory.offload_backend", backend, "pinned", "set by the user")
    return Choice("memory.offload_backend", backend, "derived", reason)


@hookimpl
def nexus_loaders() -> Sequence[Loader]:
    return [Hybrid()]
