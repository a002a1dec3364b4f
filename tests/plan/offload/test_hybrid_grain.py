"""The grain of offloading against vLLM's own loops, written down here once more: any model, any ranks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nexus_orch.contracts import Need
from nexus_orch.plan.offload.parameters import RankParts, make_ranks, matches, missing_bytes
from nexus_orch.plan.offload.prefetch import LARGEST_GROUP, choose_grouping, pool_bytes
from nexus_orch.plan.offload.uva import budget_bytes, choose_gib, move_in_order
from nexus_orch.plan.release.pinning import Pinning
from nexus_orch.types import MIB

pytestmark = pytest.mark.slow

FEW = settings(max_examples=200, deadline=None)
ROUNDED = Pinning()


@dataclass(frozen=True)
class _Layer:
    """Names and sizes of one layer's parameters."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]


_size = st.integers(1, 700).map(lambda number: number * MIB // 8 + 512)
_DENSE = ("self_attn.qkv_proj.weight", "self_attn.o_proj.weight", "mlp.gate_up_proj.weight", "mlp.down_proj.weight")
_SPARSE = ("self_attn.qkv_proj.weight", "mlp.gate.weight", "mlp.experts.w13_weight", "mlp.experts.w2_weight", "norm")


@st.composite
def _stages(draw: st.DrawFn) -> list[tuple[_Layer, ...]]:
    """Pipeline stages of a model of up to two kinds of layers, as the weights of a real one repeat them."""
    dense = _Layer(_DENSE, tuple(draw(st.tuples(_size, _size, _size, _size))))
    sparse = _Layer(_SPARSE, tuple(draw(st.tuples(_size, _size, _size, _size, _size))))
    kinds = st.lists(st.sampled_from([dense, sparse]), min_size=1, max_size=30)
    return draw(st.lists(kinds.map(tuple), min_size=1, max_size=4))


@st.composite
def _needs(draw: st.DrawFn) -> tuple[Need, ...]:
    """Ranks with budgets of their own, each of which lacks something between nothing and all of its layers."""
    found = []
    pool_reserved = draw(st.booleans())
    for layers in draw(_stages()):
        movable = sum(sum(layer.sizes) for layer in layers)
        fixed = draw(st.integers(0, 4096)) * MIB
        lacking = int(sum(_frees(layer.sizes) for layer in layers) * draw(st.floats(0, 1)))
        found.append(
            Need(
                budget_bytes=movable + fixed - lacking,
                weights_bytes=movable,
                movable_bytes=movable,
                layer_bytes=tuple(sum(layer.sizes) for layer in layers),
                fixed_bytes=fixed,
                kv_cache_bytes=0,
                parameter_bytes=tuple(layer.sizes for layer in layers),
                active_layer_bytes=tuple(sum(layer.sizes) for layer in layers),
                parameter_names=tuple(layer.names for layer in layers),
                active_parameter_bytes=tuple(layer.sizes for layer in layers),
                pool_reserved=pool_reserved,
            )
        )
    return tuple(found)


def _ranks(needs: tuple[Need, ...], wanted: tuple[str, ...] = ()) -> tuple[RankParts, ...]:
    return make_ranks(needs, wanted, [missing_bytes(need, need.kv_cache_bytes) for need in needs], ROUNDED)


def _frees(sizes: Iterable[int]) -> int:
    """What a card gains when these parameters leave it: they are pinned, and its page tables map them by 4 KiB."""
    return sum(size - ROUNDED.pinned_bytes(size) // 4096 * 8 for size in sizes)


def _offload_as_vllm(need: Need, budget: int, wanted: tuple[str, ...] = ()) -> int:
    """The bytes that are offloaded."""
    return sum(_left_as_vllm(need, budget, wanted))


def _left_as_vllm(need: Need, budget: int, wanted: tuple[str, ...] = ()) -> list[int]:
    """model_executor/offloader/uva.py, _maybe_offload_to_cpu, in its own words: what leaves the card."""
    left: list[int] = []
    offloaded = 0
    for names, sizes in zip(need.parameter_names, need.parameter_bytes, strict=True):
        if offloaded >= budget:
            continue
        for name, size in zip(names, sizes, strict=True):
            if offloaded >= budget:
                break
            if wanted and not matches(name, wanted):
                continue
            offloaded += size
            left.append(size)
    return left


@FEW
@given(_needs(), st.floats(0, 40), st.sampled_from([(), ("experts",), ("mlp", "norm")]))
def test_uva_moves_what_vllm_moves(needs: tuple[Need, ...], gib: float, wanted: tuple[str, ...]) -> None:
    for need, rank in zip(needs, _ranks(needs, wanted), strict=True):
        moved = move_in_order(rank, budget_bytes(gib))
        assert moved.bytes == _offload_as_vllm(need, int(gib * 1024**3), wanted)
        assert moved.pinned_bytes >= moved.bytes
        assert moved.pinned_bytes <= 2 * moved.bytes
        assert moved.page_table_bytes == moved.pinned_bytes // 512


@FEW
@given(_needs())
def test_every_rank_has_room_and_one_parameter_less_would_not_do(needs: tuple[Need, ...]) -> None:
    ranks = _ranks(needs)
    gib = choose_gib(ranks)
    assert gib is not None  # all of the layers always suffice here
    budget = budget_bytes(gib)
    freed = [_frees(_left_as_vllm(need, budget)) for need in needs]
    assert all(bytes_ >= missing_bytes(need, 0) for bytes_, need in zip(freed, needs, strict=True))
    assume(max(rank.target_bytes for rank in ranks) > 0)
    # The largest budget with which at least one rank moves one parameter less: then some rank has no room.
    below = min(_last_step(need, budget) for need in needs if _offload_as_vllm(need, budget))
    steps = [_last_step(need, budget) for need in needs if _offload_as_vllm(need, budget)]
    less = [_frees(_left_as_vllm(need, max(steps))) for need in needs]
    assert below <= max(steps) < budget
    assert any(bytes_ < missing_bytes(need, 0) for bytes_, need in zip(less, needs, strict=True))


def _last_step(need: Need, budget: int) -> int:
    """What had moved before the last parameter did: a budget of so much moves one parameter less."""
    offloaded, before = 0, 0
    for sizes in need.parameter_bytes:
        for size in sizes:
            if offloaded >= budget:
                return before
            offloaded, before = offloaded + size, offloaded
    return before


@FEW
@given(_needs(), st.integers(0, 8192))
def test_more_memory_never_offloads_more(needs: tuple[Need, ...], more: int) -> None:
    from dataclasses import replace

    larger = tuple(replace(need, budget_bytes=need.budget_bytes + more * MIB) for need in needs)
    for wanted in ((), ("mlp",)):
        small, large = choose_gib(_ranks(needs, wanted)), choose_gib(_ranks(larger, wanted))
        assert small is None or (large is not None and _total(larger, large, wanted) <= _total(needs, small, wanted))
        first, second = choose_grouping(_ranks(needs, wanted)), choose_grouping(_ranks(larger, wanted))
        assert first is None or (second is not None and second.bytes <= first.bytes)


def _total(needs: tuple[Need, ...], gib: float, wanted: tuple[str, ...]) -> int:
    return sum(_offload_as_vllm(need, budget_bytes(gib), wanted) for need in needs)


def _prefetch_as_vllm(need: Need, size: int, chosen: int) -> tuple[list[int], int]:
    """PrefetchOffloader.wrap_modules and StaticBufferPool in their own words: what leaves the card, and the pool."""
    left, pool = [], {}
    for index, (names, sizes) in enumerate(zip(need.parameter_names, need.parameter_bytes, strict=True)):
        if index % size >= size - chosen:
            for name, parameter in zip(names, sizes, strict=True):
                left.append(parameter)
                pool[name, parameter] = parameter
    return left, sum(pool.values())


def _has_room(need: Need, size: int, chosen: int, copies: int) -> bool:
    """Each copy of what left is pinned."""
    left, pool = _prefetch_as_vllm(need, size, chosen)
    freed = sum(left) - copies * (sum(left) - _frees(left))
    return freed - (pool if need.pool_reserved else 0) >= missing_bytes(need, 0)


@FEW
@given(_needs(), st.integers(1, 2))
def test_prefetch_takes_the_least_grouping_of_all(needs: tuple[Need, ...], copies: int) -> None:
    assume(any(missing_bytes(need, 0) for need in needs))
    found = choose_grouping(_ranks(needs), copies=copies)
    largest = min(LARGEST_GROUP, max(len(need.layer_bytes) for need in needs))
    possible = [
        sum(sum(_prefetch_as_vllm(need, size, chosen)[0]) for need in needs)
        for size in range(1, largest + 1)
        for chosen in range(1, size + 1)
        if all(_has_room(need, size, chosen, copies) for need in needs)
    ]
    if found is None:
        assert not possible
        return
    assert found.bytes == min(possible)
    for need, moved, pool in zip(needs, found.moved, found.pools, strict=True):
        left, expected = _prefetch_as_vllm(need, found.size, found.chosen)
        assert (moved.bytes, moved.bytes - moved.page_table_bytes, pool) == (sum(left), _frees(left), expected)


def test_the_pool_holds_every_kind_of_layer() -> None:
    """A buffer for each name and shape: dense and sparse layers together need more than the larger of them."""
    sizes = (64 * MIB, 8 * MIB, 512 * MIB, 256 * MIB, 4096)
    other = (64 * MIB, 32 * MIB, 96 * MIB, 48 * MIB)
    need = Need(
        0,
        sum(sizes) + sum(other),
        sum(sizes) + sum(other),
        (sum(other), sum(sizes)),
        0,
        0,
        parameter_bytes=(other, sizes),
        parameter_names=(_DENSE, _SPARSE),
        active_parameter_bytes=(other, sizes),
    )
    (rank,) = make_ranks([need], (), [0], ROUNDED)
    assert pool_bytes(rank.stage.kinds) == sum(sizes) + sum(other) - 64 * MIB  # the attention's buffer is shared


def test_pinned_sizes() -> None:
    assert [ROUNDED.pinned_bytes(size) for size in (0, 1, 4096, 4097, 3 * MIB, 4 * MIB)] == [
        0,
        4096,
        4096,
        8192,
        4 * MIB,
        4 * MIB,
    ]


def test_names_are_matched_by_whole_segments() -> None:
    assert matches("mlp.experts.w2_weight", ("experts",))
    assert matches("mlp.experts.w2_weight", ("experts.w2_weight",))
    assert matches("mlp.experts.w2_weight", ("block_sparse_moe.experts",))
    assert not matches("mlp.experts.w2_weight", ("expert", "w2"))
    assert not matches("mlp.shared_experts.down_proj.weight", ("experts",))
