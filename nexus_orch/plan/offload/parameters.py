"""The parameters of one card that an offloader may move, by layer and in the engine's order."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from nexus_orch.contracts import Need
from nexus_orch.types import KIB

EXPERTS = ("experts",)
"""The segment under which every model of vLLM registers its routed experts (`mlp.experts.w13_weight`, in some releases
`mlp.experts.routed_experts.w13_weight`); shared experts are registered before them, under a name of their own."""

_FEED_FORWARD = frozenset({"mlp", "block_sparse_moe", "feed_forward", "ffn", "mixer"})
"""What different models call the module that the planner names `mlp`."""


@cache
def pinned_size(size: int) -> int:
    """What pinning a tensor of `size` bytes takes: torch's pinned allocator gives the next power of two
    (aten/src/ATen/core/CachingHostAllocator.h); seen on an H100: 832 MiB for the tensors of a layer of 444.5 MiB."""
    return max(4 * KIB, 1 << (size - 1).bit_length()) if size > 0 else 0


@dataclass(frozen=True, eq=False)
class LayerPart:
    """The parameters of one layer that may move. Layers that are equal share one object."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    active: tuple[int, ...]

    @cached_property
    def bytes(self) -> int:
        return sum(self.sizes)

    @cached_property
    def active_bytes(self) -> int:
        return sum(self.active)

    @cached_property
    def pinned_bytes(self) -> int:
        return sum(map(pinned_size, self.sizes))


@dataclass(frozen=True, eq=False)
class StageParts:
    """The layers of one pipeline stage: the different ones, and which of them each layer is."""

    kinds: tuple[LayerPart, ...]
    order: tuple[int, ...]

    @cached_property
    def layers(self) -> tuple[LayerPart, ...]:
        return tuple(self.kinds[kind] for kind in self.order)

    @cached_property
    def bytes(self) -> int:
        return sum(self.order.count(number) * kind.bytes for number, kind in enumerate(self.kinds))


@dataclass(frozen=True)
class Moved:
    """What lies in host RAM for one card: bytes as the engine counts them, what one token reads of them, and the pinned
    memory that holds them."""

    bytes: int = 0
    active_bytes: int = 0
    pinned_bytes: int = 0


@dataclass(frozen=True, eq=False)
class RankParts:
    """One card: the layers' parts in order, and how many bytes of parameters must leave it to make room."""

    stage: StageParts
    target_bytes: int
    pool_reserved: bool
    tower_bytes: tuple[int, ...] = ()
    """Parameters that move ahead of the layers."""

    @property
    def layers(self) -> tuple[LayerPart, ...]:
        return self.stage.layers

    @property
    def kind(self) -> tuple[int, int, int]:
        """Equal for ranks that decide alike."""
        return id(self.stage), len(self.tower_bytes), self.target_bytes

    @cached_property
    def bytes(self) -> int:
        return sum(self.tower_bytes) + self.stage.bytes


def missing_bytes(need: Need, cache_bytes: int) -> int:
    """What the card lacks for all its weights and so much KV cache."""
    return max(0, need.weights_bytes + need.fixed_bytes + cache_bytes - need.budget_bytes)


def make_ranks(
    needs: Sequence[Need], wanted: Sequence[str], missing: Sequence[int], *, moves_towers: bool = False
) -> tuple[RankParts, ...]:
    """Each card's parameters that match `wanted` (all when empty), and the bytes of them that free what is missing.

    The allocator counts a little more than the parameters' plain sizes, and gives that back with them. Ranks of one
    pipeline stage share its parts.
    """
    stages: dict[int, StageParts] = {}
    ranks = []
    for need, lacking in zip(needs, missing, strict=True):
        if id(need.parameter_bytes) not in stages:
            stages[id(need.parameter_bytes)] = _make_stage(need, wanted)
        plain = sum(map(sum, need.parameter_bytes)) if lacking else 0
        target = -(-lacking * plain // max(1, need.movable_bytes))
        tower = need.tower_bytes if moves_towers and not wanted else ()
        ranks.append(RankParts(stages[id(need.parameter_bytes)], min(target, lacking), need.pool_reserved, tower))
    return tuple(ranks)


def _make_stage(need: Need, wanted: Sequence[str]) -> StageParts:
    """Equal layers share their tuples, so that they are told apart by identity."""
    identities = tuple(map(id, need.parameter_bytes))
    first = {identity: identities.index(identity) for identity in dict.fromkeys(identities)}
    numbers = {identity: number for number, identity in enumerate(first)}
    kinds = tuple(
        _make_part(need.parameter_names[at], need.parameter_bytes[at], need.active_parameter_bytes[at], wanted)
        for at in first.values()
    )
    return StageParts(kinds, tuple(map(numbers.__getitem__, identities)))


def _make_part(
    names: tuple[str, ...], sizes: tuple[int, ...], active: tuple[int, ...], wanted: Sequence[str]
) -> LayerPart:
    if not wanted:
        return LayerPart(names, sizes, active)
    kept = [index for index, name in enumerate(names) if matches(name, wanted)]
    return LayerPart(
        tuple(names[index] for index in kept),
        tuple(sizes[index] for index in kept),
        tuple(active[index] for index in kept),
    )


def matches(name: str, wanted: Sequence[str]) -> bool:
    """vLLM's rule: whole segments of the dotted name (model_executor/offloader/uva.py and prefetch.py, from 0.19.1)."""
    return any(f".{_our_name(segment)}." in f".{name}." for segment in wanted)


def _our_name(wanted: str) -> str:
    first, separator, rest = wanted.partition(".")
    return f"mlp{separator}{rest}" if first in _FEED_FORWARD else wanted


def find_unmatched(needs: Sequence[Need], wanted: Sequence[str]) -> dict[str, str | None]:
    """The wanted names that match no parameter of any card, each with the nearest that does (None: none is near)."""
    names = {name for need in needs for layer in need.parameter_names for name in layer}
    known = sorted({part for name in names for part in (*name.split("."), name)} - {"weight", "bias"})
    found: dict[str, str | None] = {}
    for segment in wanted:
        if not any(matches(name, (segment,)) for name in names):
            near = difflib.get_close_matches(segment, known, n=1) or [name for name in known if segment in name]
            found[segment] = near[0] if near else None
    return found
