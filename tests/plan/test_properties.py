"""What must hold for every plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nexus_orch.types import GIB, Plan
from tests.plan.cases import make_gpu, models, plan_of

pytestmark = pytest.mark.slow

SIZES = {
    name: entry["expected"]["params_total"]
    for name, entry in models().items()
    if entry["expected"]["params_total"] < 80e9 and entry["config"]["model_type"] != "nemotron-nas"
}
NAMES = st.sampled_from(sorted(SIZES))
MEMORY = st.floats(8, 96)
VERSIONS = st.sampled_from(["0.7.3", "0.9.2", "0.11.2", "0.16.0", "0.19.1", "0.25.1", "0.28.0", "0.32.0"])
SAME = ("memory.offload_backend", "serve.max_num_seqs")
FEW = settings(max_examples=60, deadline=None)


def _plan(name: str, gib: float, count: int = 1, version: str = "0.32.0", **pinned: Any) -> Plan:
    gpu = make_gpu(total_bytes=int(gib * GIB), free_bytes=int((gib - 0.3) * GIB))
    keys = {key.replace("__", "."): value for key, value in pinned.items()}
    return plan_of(name, *[gpu] * count, settings=keys, version=version, ram_gib=1024)


@FEW
@given(NAMES, MEMORY, st.integers(1, 4), VERSIONS)
def test_a_plan_that_fits_stays_within_budget_and_free_memory(name: str, gib: float, count: int, version: str) -> None:
    plan = _plan(name, gib, count, version)
    for card in plan.per_gpu:
        assert min(card.weights_bytes, card.kv_cache_bytes, card.offloaded_bytes, card.static_pool_bytes) >= 0
        if plan.fits:
            used = card.weights_bytes + card.kv_cache_bytes + card.activation_bytes + card.non_torch_bytes
            assert used <= card.budget_bytes
            assert used + card.cuda_graph_bytes + card.static_pool_bytes <= int((gib - 0.3) * GIB)
    if plan.fits:
        assert plan.max_model_len > 0
        assert plan.max_concurrency >= 1
    else:
        assert plan.problems


@FEW
@given(NAMES, MEMORY, st.floats(0.1, 40), VERSIONS)
def test_a_plan_that_fits_still_fits_with_more_memory(name: str, gib: float, more: float, version: str) -> None:
    assume(_plan(name, gib, version=version).fits)
    assert _plan(name, gib + more, version=version).fits


@FEW
@given(NAMES, MEMORY, st.integers(1, 2000), st.integers(1, 2000))
def test_a_longer_context_never_needs_less(name: str, gib: float, first: int, second: int) -> None:
    """Of one mechanism: where RAM is short another one may be taken, which moves in other steps. And with room for as
    many requests at once: more of them have more graphs, and more that the sampler keeps."""
    short, long = sorted((first, second))
    longer = _plan(name, gib, model__max_model_len=long)
    assume(longer.fits)
    plan = _plan(name, gib, model__max_model_len=short)
    assert plan.fits
    # With more room for its cache it would serve more requests at once: then less weights stay on the card.
    has_no_more_cache = plan.per_gpu[0].kv_cache_bytes <= longer.per_gpu[0].kv_cache_bytes
    if has_no_more_cache and all(plan.settings.get(key) == longer.settings.get(key) for key in SAME):
        assert plan.per_gpu[0].offloaded_bytes <= longer.per_gpu[0].offloaded_bytes


@FEW
@given(NAMES, st.floats(24, 96))
def test_tensor_parallelism_shrinks_every_card(name: str, gib: float) -> None:
    common: dict[str, Any] = {"memory__strategy": "vram_only", "model__max_model_len": 1024}
    alone, divided = (_plan(name, gib, ranks, serve__tensor_parallel=ranks, **common) for ranks in (1, 2))
    assume(alone.per_gpu and divided.per_gpu)
    assert divided.per_gpu[0].weights_bytes < alone.per_gpu[0].weights_bytes
    assert divided.per_gpu[0].weights_bytes * 2 >= alone.per_gpu[0].weights_bytes * 0.97


@FEW
@given(NAMES, st.floats(24, 96), st.floats(0.5, 8), st.floats(0.5, 8))
def test_offload_shrinks_the_card(name: str, gib: float, first: float, second: float) -> None:
    plans = [
        _plan(
            name,
            gib,
            memory__strategy="hybrid",
            memory__offload_backend="uva",
            memory__cpu_offload_gib=offload,
            memory__enforce_eager=True,
        )
        for offload in sorted((first, second))
    ]
    assume(all(plan.per_gpu for plan in plans))
    less, more = (plan.per_gpu[0] for plan in plans)
    assert more.weights_bytes <= less.weights_bytes
    assert more.offloaded_bytes >= less.offloaded_bytes
    assert plans[1].host.pinned_bytes >= plans[0].host.pinned_bytes


@FEW
@given(NAMES, VERSIONS, st.integers(1, 10**9), st.floats(0.05, 1.0), st.integers(1, 9))
def test_pinned_values_are_never_changed(name: str, version: str, length: int, share: float, ranks: int) -> None:
    pinned = {
        "model__max_model_len": length,
        "memory__gpu_memory_utilization": share,
        "serve__tensor_parallel": ranks,
        "serve__max_num_seqs": 7,
        "memory__enforce_eager": True,
    }
    plan = _plan(name, 24.0, 4, version, **pinned)
    for key, value in pinned.items():
        choice = plan.choice(key.replace("__", "."))
        assert choice is None or (choice.value == value and choice.origin == "pinned")
    assert plan.fits or plan.problems


@FEW
@given(NAMES, MEMORY, st.integers(1, 4), VERSIONS)
def test_the_same_question_has_the_same_answer(name: str, gib: float, count: int, version: str) -> None:
    assert _plan(name, gib, count, version) == _plan(name, gib, count, version)
