"""Pinned host memory: in powers of two that torch keeps, or as it is asked for where torch is told so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.adapt.allocator import guard_allocator
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.release.pinning import ALLOCATOR_VARIABLES, EXACTLY, Pinning, choose_pinning
from nexus_orch.types import GIB, MIB, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec, plan_of

Q14, L70 = "Qwen/Qwen2.5-14B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
CARD = make_gpu()
OLD, NEW = ALLOCATOR_VARIABLES
ROUNDED, EXACT = Pinning(), Pinning(16 * MIB)


@pytest.mark.parametrize(
    ("mib", "default_gb", "exact_gb", "exact_kept_gb"),
    [(270, 12.885, 6.795, 0.0), (20, 0.805, 0.503, 0.0), (6, 0.201, 0.201, 0.201)],
)
def test_what_was_measured(mib: int, default_gb: float, exact_gb: float, exact_kept_gb: float) -> None:
    """24 tensors on an H200 with torch 2.13: GB taken, and what of it stayed when they were freed."""
    size = mib * MIB
    assert 24 * ROUNDED.pinned_bytes(size) / 1e9 == pytest.approx(default_gb, abs=1e-3)
    assert 24 * ROUNDED.kept_bytes(size) / 1e9 == pytest.approx(default_gb, abs=1e-3)
    assert 24 * EXACT.pinned_bytes(size) / 1e9 == pytest.approx(exact_gb, abs=1e-3)
    assert 24 * EXACT.kept_bytes(size) / 1e9 == pytest.approx(exact_kept_gb, abs=1e-3)


@given(st.integers(0, 4 * GIB), st.integers(0, 4 * GIB))
def test_exact_pinning_never_takes_more(size: int, limit: int) -> None:
    exact = Pinning(limit)
    assert size <= exact.pinned_bytes(size) <= ROUNDED.pinned_bytes(size)
    assert exact.kept_bytes(size) <= exact.pinned_bytes(size)
    assert exact.page_table_bytes(size) <= ROUNDED.page_table_bytes(size)
    if size <= limit:
        assert exact.pinned_bytes(size) == exact.kept_bytes(size) == ROUNDED.pinned_bytes(size)
    else:
        assert (exact.pinned_bytes(size), exact.kept_bytes(size)) == (size, 0)


@pytest.mark.parametrize(
    ("version", "env", "expected"),
    [
        ("0.30.0", {}, ROUNDED),
        ("0.30.0", {OLD: EXACTLY}, ROUNDED),  # forgotten while the weights are loaded
        ("0.31.0", {}, EXACT),
        ("0.33.0.dev12+gabc", {}, EXACT),
        ("0.33.0", {"OTHER": "1"}, EXACT),
        ("0.33.0", {OLD: "max_split_size_mb:128"}, ROUNDED),
        ("0.33.0", {NEW: ""}, ROUNDED),
        ("0.33.0", {OLD: f"max_split_size_mb:128,{EXACTLY}"}, EXACT),
        ("0.33.0", {NEW: "pinned_max_cached_size_mb:64"}, Pinning(64 * MIB)),
        ("0.33.0", {OLD: "pinned_max_cached_size_mb:8, pinned_max_cached_size_mb:16"}, EXACT),
        ("0.33.0", {OLD: EXACTLY, NEW: "max_split_size_mb:128"}, ROUNDED),
    ],
)
def test_what_torch_is_told_decides(version: str, env: Mapping[str, str], expected: Pinning) -> None:
    assert choose_pinning(make_assumed_engine(version), env) == expected


@pytest.mark.parametrize("version", ["0.19.1", "0.25.1", "0.29.0", "0.30.0", "0.31.0", "0.33.0"])
@pytest.mark.parametrize("torch", [None, "2.12.1", "2.13.0+cu130"])
@pytest.mark.parametrize("env", [{}, {OLD: EXACTLY}, {NEW: "max_split_size_mb:128"}])
def test_what_is_planned_is_what_the_engine_gets(version: str, torch: str | None, env: dict[str, str]) -> None:
    engine = make_assumed_engine(version)
    if torch is not None:
        engine = replace(engine, source="installed", torch=torch)
    facts = replace(make_facts(Q14, CARD, version=version), engine=engine)
    plan = make_plan(make_spec({"memory.offload_backend": "uva", "engine.env": env}), facts, LOADERS)
    told = {**env, **guard_allocator(plan, engine).env}
    is_told = any(EXACTLY in value for value in told.values())
    is_kept = version >= "0.31" or (version == "0.19.1" and torch == "2.13.0+cu130")
    knows = torch == "2.13.0+cu130" if torch else version >= "0.31"
    assert (plan.host.rounding_bytes < 0.1 * plan.host.weights_bytes) is (is_told and is_kept and knows)


def _plan(backend: str, *, rounded: bool, version: str = "0.33.0") -> Plan:
    env = {OLD: "max_split_size_mb:128"} if rounded else {}
    settings = {"memory.offload_backend": backend, "memory.cpu_offload_gib": 8.0, "engine.env": env}
    return plan_of(Q14, CARD, version=version, settings=settings)


@pytest.mark.parametrize("backend", ["uva", "prefetch"])
def test_weights_are_planned_without_rounding(backend: str) -> None:
    exact, rounded = _plan(backend, rounded=False).host, _plan(backend, rounded=True).host
    assert exact.weights_bytes == rounded.weights_bytes
    assert exact.rounding_bytes < 0.01 * exact.weights_bytes < 0.5 * rounded.weights_bytes < rounded.rounding_bytes
    assert exact.required_bytes < rounded.required_bytes


def test_second_copies_count_while_loading_and_are_given_back() -> None:
    """Both copies are pinned when the last weights have been processed; what is kept are the smallest parameters."""
    exact, rounded = _plan("prefetch", rounded=False).host, _plan("prefetch", rounded=True).host
    once = exact.weights_bytes + exact.rounding_bytes
    assert exact.copies_bytes + exact.loading_bytes == once
    assert 0 < exact.copies_bytes < 0.01 * once
    assert exact.pinned_bytes == 2 * once
    assert exact.required_bytes == exact.process_bytes + 2 * once
    assert (rounded.copies_bytes, rounded.loading_bytes) == (rounded.weights_bytes + rounded.rounding_bytes, 0)


@pytest.mark.parametrize("backend", ["uva", "prefetch"])
@pytest.mark.parametrize("version", ["0.25.1", "0.28.0", "0.30.0"])
def test_older_releases_take_what_they_took(version: str, backend: str) -> None:
    """vLLM 0.28 and before copy into plain memory and keep one layer's, 0.29 and 0.30 pin and keep all of it."""
    host = _plan(backend, rounded=False, version=version).host
    assert host == _plan(backend, rounded=True, version=version).host
    assert host.rounding_bytes > 0.5 * host.weights_bytes
    if backend == "uva":
        assert host.copies_bytes == host.loading_bytes == 0
    elif version == "0.30.0":
        assert (host.copies_bytes, host.loading_bytes) == (host.weights_bytes + host.rounding_bytes, 0)
    else:
        assert host.loading_bytes == host.weights_bytes
        assert host.copies_bytes == pytest.approx(960 * MIB, rel=1e-3)


def test_less_ram_is_enough() -> None:
    """A host that was too small for the rounding holds the weights themselves."""
    settings = {"memory.offload_backend": "uva"}
    needed = plan_of(L70, CARD, version="0.33.0", ram_gib=512, settings=settings).host.required_bytes / GIB
    rounded = {**settings, "engine.env": {NEW: "max_split_size_mb:128"}}
    assert plan_of(L70, CARD, version="0.33.0", ram_gib=needed + 1, settings=settings).fits
    assert not plan_of(L70, CARD, version="0.33.0", ram_gib=needed + 1, settings=rounded).fits
