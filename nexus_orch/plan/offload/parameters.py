"""The parameters of one card that an offloader may move, by layer and in the engine's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from nexus_orch.contracts import Need
from nexus_orch.plan.release.pinning import Pinning, page_table_bytes
from nexus_orch.suggest import suggest

EXPERTS = ("experts",)
"""The segment under which every model of vLLM registers its routed experts (`mlp.experts.w13_weight`, in some releases
`mlp.experts.routed_experts.w13_weight`); shared experts are registered before them, under a name of their own."""

MOST_SEGMENTS = 6
"""As many of a model's segments are named in a remedy."""

_FEED_FORWARD = frozenset({"mlp", "block_sparse_moe", "feed_forward", "ffn", "mixer"})
"""What different models call the module that the planner names `mlp`."""


@dataclass(frozen=True, eq=False)
class LayerPart:
    """The parameters of one layer that may move. Layers that are equal share one object."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    active: tuple[int, ...]
    pinning: Pinning

    @cached_property
    def bytes(self) -> int:
        return sum(self.sizes)

    @cached_property
    def active_bytes(self) -> int:
        return sum(self.active)

    @cached_property
    def pinned(self) -> tuple[int, ...]:
        """Bytes that pinning takes for each parameter."""
        return tuple(map(self.pinning.pinned_bytes, self.sizes))

    @cached_property
    def pinned_bytes(self) -> int:
        return sum(self.pinned)

    @cached_property
    def kept_bytes(self) -> int:
        return sum(map(self.pinning.kept_bytes, self.sizes))

    @cached_property
    def page_tables(self) -> tuple[int, ...]:
        """Bytes of the card that mapping each parameter takes."""
        return tuple(map(self.pinning.page_table_bytes, self.sizes))

    @cached_property
    def page_table_bytes(self) -> int:
        return sum(self.page_tables)

    @cached_property
    def freed(self) -> tuple[int, ...]:
        """Bytes that the card gains with each parameter that leaves it to be read in place."""
        return tuple(size - tables for size, tables in zip(self.sizes, self.page_tables, strict=True))

    @cached_property
    def freed_bytes(self) -> int:
        return sum(self.freed)


@dataclass(frozen=True, eq=False)
class StageParts:
    """The layers of one pipeline stage: the different ones, and which of them each layer is. Equal stages share one
    object."""

    kinds: tuple[LayerPart, ...]
    order: tuple[int, ...]

    @cached_property
    def layers(self) -> tuple[LayerPart, ...]:
        return tuple(self.kinds[kind] for kind in self.order)

    @cached_property
    def bytes(self) -> int:
        return sum(self.order.count(number) * kind.bytes for number, kind in enumerate(self.kinds))

    @cached_property
    def freed_bytes(self) -> int:
        return sum(self.order.count(number) * kind.freed_bytes for number, kind in enumerate(self.kinds))


@dataclass(frozen=True)
class Moved:
    """Bytes in host RAM for one card: as the engine counts them, what one token reads of them, the pinned memory that
    holds them, and what mapping it takes on the card."""

    bytes: int = 0
    active_bytes: int = 0
    pinned_bytes: int = 0
    page_table_bytes: int = 0
    idle_bytes: int = 0
    """The part of `bytes` that no token of text reads."""
    kept_bytes: int = 0
    """Pinned bytes that stay with torch of a copy that is freed; 0 where none is made."""

    def mapped_bytes(self, copies: int) -> int:
        """What mapping it takes on the card when it was pinned so many times: what stays of the freed copies is mapped
        too. Five launches of 0.33.0 on H200 cards agree with one set where nothing stays (tests/data/h200_033.json)."""
        return self.page_table_bytes + (copies - 1) * page_table_bytes(self.kept_bytes)


@dataclass(frozen=True, eq=False)
class RankParts:
    """One card: the layers' parts in order, and how many bytes must become free on it."""

    stage: StageParts
    target_bytes: int
    pool_reserved: bool
    tower: LayerPart | None = None
    """Parameters that move ahead of the layers."""

    @cached_property
    def layers(self) -> tuple[LayerPart, ...]:
        """All parameters that may move, in order, layer by layer."""
        return self.stage.layers if self.tower is None else (self.tower, *self.stage.layers)

    @property
    def different_layers(self) -> tuple[LayerPart, ...]:
        """All parameters that may move, equal layers once."""
        return self.stage.kinds if self.tower is None else (self.tower, *self.stage.kinds)

    @property
    def kind(self) -> tuple[int, int, int]:
        """A key that is equal for ranks that decide alike."""
        return id(self.stage), id(self.tower), self.target_bytes

    @cached_property
    def bytes(self) -> int:
        return self.stage.bytes + (self.tower.bytes if self.tower else 0)

    @cached_property
    def has_enough(self) -> bool:
        """Whether moving everything would make room."""
        freed = self.stage.freed_bytes + (self.tower.freed_bytes if self.tower else 0)
        return freed >= self.target_bytes


def missing_bytes(need: Need, cache_bytes: int) -> int:
    """Bytes that the card lacks for all its weights and `cache_bytes` of KV cache."""
    return max(0, need.weights_bytes + need.fixed_bytes + cache_bytes - need.budget_bytes)


def make_ranks(
    needs: Sequence[Need],
    wanted: Sequence[str],
    missing: Sequence[int],
    pinning: Pinning,
    *,
    moves_towers: bool = False,
) -> tuple[RankParts, ...]:
    """Each card's parameters that match `wanted` (all when empty), and the bytes of them that free what is missing.

    The allocator counts a little more than the parameters' plain sizes, and gives that back with them. Ranks of one
    pipeline stage share its parts.
    """
    stages: dict[int, StageParts] = {}
    plain: dict[int, int] = {}
    towers: dict[int, LayerPart] = {}
    ranks = []
    for need, lacking in zip(needs, missing, strict=True):
        key = id(need.parameter_bytes)
        if key not in stages:
            stages[key], plain[key] = _make_stage(need, tuple(wanted), pinning), sum(map(sum, need.parameter_bytes))
        target = -(-lacking * plain[key] // max(1, need.movable_bytes))
        tower = None
        if need.tower_bytes and moves_towers and not wanted:
            tower = towers.setdefault(id(need.tower_bytes), _make_tower(need.tower_bytes, pinning))
        ranks.append(RankParts(stages[key], min(target, lacking), need.pool_reserved, tower))
    return tuple(ranks)


def _make_stage(need: Need, wanted: tuple[str, ...], pinning: Pinning) -> StageParts:
    """The parts of a stage. Equal layers share their tuples, so that they are told apart by identity."""
    identities = tuple(map(id, need.parameter_bytes))
    first = {identity: identities.index(identity) for identity in dict.fromkeys(identities)}
    numbers = {identity: number for number, identity in enumerate(first)}
    kinds = tuple(
        _make_part(need.parameter_names[at], need.parameter_bytes[at], need.active_parameter_bytes[at], wanted, pinning)
        for at in first.values()
    )
    return _share_stage(kinds, tuple(map(numbers.__getitem__, identities)))


@lru_cache(maxsize=64)
def _share_stage(kinds: tuple[LayerPart, ...], order: tuple[int, ...]) -> StageParts:
    """One object for equal stages, so that what is counted of a stage is counted once for all placements of a plan."""
    return StageParts(kinds, order)


def _make_tower(sizes: tuple[int, ...], pinning: Pinning) -> LayerPart:
    """A vision tower, of which a token of text reads nothing."""
    return LayerPart(("visual",) * len(sizes), sizes, (0,) * len(sizes), pinning)


@lru_cache(maxsize=256)
def _make_part(
    names: tuple[str, ...],
    sizes: tuple[int, ...],
    active: tuple[int, ...],
    wanted: tuple[str, ...],
    pinning: Pinning,
) -> LayerPart:
    """The parameters of a layer that match. Remembered: a plan asks for the same few layers with every offer."""
    if not wanted:
        return LayerPart(names, sizes, active, pinning)
    kept = [index for index, name in enumerate(names) if matches(name, wanted)]
    return LayerPart(
        tuple(names[index] for index in kept),
        tuple(sizes[index] for index in kept),
        tuple(active[index] for index in kept),
        pinning,
    )


def matches(name: str, wanted: Sequence[str]) -> bool:
    """Whether a parameter is named by vLLM's rule: whole segments of the dotted name (model_executor/offloader/uva.py
    and prefetch.py, from 0.19.1)."""
    return any(f".{_our_name(segment)}." in f".{name}." for segment in wanted)


def _our_name(wanted: str) -> str:
    first, separator, rest = wanted.partition(".")
    return f"mlp{separator}{rest}" if first in _FEED_FORWARD else wanted


def find_unmatched(needs: Sequence[Need], wanted: Sequence[str]) -> dict[str, str]:
    """The wanted names that match no parameter of any card, each with the question whether a near one was meant."""
    names = {name for need in needs for layer in need.parameter_names for name in layer}
    known = sorted({part for name in names for part in (*name.split("."), name)} - {"weight", "bias"})
    found: dict[str, str] = {}
    for segment in wanted:
        if not any(matches(name, (segment,)) for name in names):
            found[segment] = suggest(segment, known)
    return found


def main_segments(needs: Sequence[Need]) -> list[str]:
    """The segments of names that hold most of what may leave the cards, the largest first: modules, not single
    tensors."""
    held: dict[str, int] = {}
    for need in needs:
        for names, sizes in zip(need.parameter_names, need.parameter_bytes, strict=True):
            for name, size in zip(names, sizes, strict=True):
                for segment in dict.fromkeys(name.split(".")[:-1]):
                    held[segment] = held.get(segment, 0) + size
    return sorted(held, key=lambda segment: -held[segment])[:MOST_SEGMENTS]
