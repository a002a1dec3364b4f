"""KV blocks outside the cards: when only further requests lack room, and where a user asks for it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, Plan, WorkloadSpec
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec
from tests.plugins.plans import render

Q7, GEMMA = "Qwen/Qwen2.5-7B-Instruct", "google/gemma-3-12b-it"
CARD = make_gpu()
HYBRID = {"memory.strategy": "hybrid", "model.max_model_len": 8192}


def _plan(settings: dict[str, Any], *, model: str = Q7, requests: int = 64, **facts: Any) -> Plan:
    spec = replace(make_spec(settings), workload=WorkloadSpec(requests, input_tokens=4096, output_tokens=256))
    return make_plan(spec, make_facts(model, CARD, **{"ram_gib": 128, **facts}), LOADERS)


def test_requests_that_do_not_fit_wait_in_ram_and_no_weights_leave() -> None:
    plan = _plan(HYBRID)
    choice = plan.choice("memory.kv_offload_gib")
    assert plan.fits
    assert choice is not None
    assert choice.origin == "derived"
    assert "64 requests at once" in choice.reason
    assert plan.per_gpu[0].offloaded_bytes == 0
    assert plan.host.kv_offload_bytes == choice.value * GIB
    assert any("the longest context" in note for note in plan.notes)
    argv = render(plan, "0.32.0").argv
    assert argv[argv.index("--kv-offloading-size") + 1] == str(choice.value)


def test_up_to_0_25_it_takes_nearly_twice_the_ram() -> None:
    plan = _plan(HYBRID, version="0.25.1")
    assert plan.host.kv_offload_bytes == int(plan.settings["memory.kv_offload_gib"] * GIB * 1.9)


def test_releases_without_it_serve_fewer_at_once() -> None:
    """Weights that every step must fetch for the sake of more requests would make all of them slower together."""
    for version in ("0.12.0", "0.10.2"):
        plan = _plan(HYBRID, version=version)
        moved = _plan({**HYBRID, "memory.cpu_offload_gib": 8.0}, version=version)
        assert "memory.kv_offload_gib" not in plan.settings
        assert plan.per_gpu[0].offloaded_bytes == 0
        assert any("the others wait" in note for note in plan.notes)
        assert plan.prediction.requests_at_once < moved.prediction.requests_at_once
        assert (plan.prediction.tokens_per_second or 0) > 2 * (moved.prediction.tokens_per_second or 0)


def test_grouped_caches_are_kept_as_they_are() -> None:
    """Before 0.22.1 a connector turns the sliding windows of Gemma 3 into full attention."""
    assert "memory.kv_offload_gib" not in _plan(HYBRID, model=GEMMA, version="0.19.1", requests=256).settings


def test_one_request_asks_for_nothing() -> None:
    plan = _plan(HYBRID, requests=1)
    assert "memory.kv_offload_gib" not in plan.settings
    assert not any("KV blocks" in note for note in plan.notes)


def test_little_ram_is_not_filled_with_kv_blocks() -> None:
    plan = _plan(HYBRID, ram_gib=12, version="0.25.1")
    assert plan.host.required_bytes <= plan.host.available_bytes
    assert plan.settings.get("memory.kv_offload_gib", 0) <= 3


def test_a_tier_that_is_smaller_than_what_is_needed_names_its_cap() -> None:
    for ram_gib, is_capped in ((12, True), (128, False)):
        choice = _plan(HYBRID, ram_gib=ram_gib).choice("memory.kv_offload_gib")
        assert choice is not None
        assert ("half of the available RAM" in choice.reason) is is_capped
        assert (f"no more than {choice.value} GiB" in choice.reason) is is_capped


def test_a_folder_is_a_tier_below_the_ram() -> None:
    plan = _plan({**HYBRID, "memory.kv_offload_dir": "/data/kv"}, requests=1)
    assert plan.fits
    assert plan.settings["memory.kv_offload_gib"] >= 1
    argv = render(plan, "0.32.0").argv
    connector = json.loads(argv[argv.index("--kv-transfer-config") + 1])
    assert connector["kv_connector"] == "OffloadingConnector"
    assert connector["kv_role"] == "kv_both"
    extra = connector["kv_connector_extra_config"]
    assert extra == {
        "spec_name": "TieringOffloadingSpec",
        "secondary_tiers": [{"type": "fs", "root_dir": "/data/kv"}],
    }
    assert "--kv-offloading-size" in argv


def test_a_folder_leads_to_the_strategy_that_plans_its_ram() -> None:
    plan = _plan({"model.max_model_len": 8192, "memory.kv_offload_dir": "/data/kv"}, requests=1)
    assert plan.loader == "hybrid"
    assert plan.settings["memory.kv_offload_gib"] >= 1
    assert plan.per_gpu[0].offloaded_bytes == 0
    starved = _plan({**HYBRID, "memory.kv_offload_dir": "/data/kv"}, requests=1, ram_gib=2.5)
    assert [problem.cause for problem in starved.problems] == ["host_oom"]


def test_a_folder_is_refused_before_0_22() -> None:
    plan = _plan({**HYBRID, "memory.kv_offload_dir": "/data/kv"}, version="0.19.1")
    (problem,) = render(plan, "0.19.1").problems
    assert problem.key == "memory.kv_offload_dir"
    assert "0.22.0 or later" in str(problem.remedy)


@pytest.mark.parametrize(("version", "share"), [("0.32.0", 1.0), ("0.25.1", 1.9 / 2)])
def test_what_maps_them_on_the_cards_is_left_free(version: str, share: float) -> None:
    """8 bytes for each 4 KiB, on top of the budget: of all where the region is shared, else of each rank's part."""
    card = make_gpu(free_bytes=int(20 * GIB))
    facts = make_facts(Q7, card, card, ram_gib=512, version=version)
    eager = {"model.max_model_len": 8192, "memory.strategy": "hybrid", "memory.enforce_eager": True}
    budgets = [
        make_plan(make_spec({**eager, "memory.kv_offload_gib": gib}), facts, LOADERS).per_gpu[0].budget_bytes
        for gib in (0, 200)
    ]
    step = card.total_bytes / 1000  # of gpu_memory_utilization
    assert budgets[0] - budgets[1] == pytest.approx(200 * GIB / 512 * share, abs=step)


def test_too_small_shared_memory_is_told() -> None:
    """A container's /dev/shm has 64 MiB unless it is told otherwise."""
    facts = make_facts(Q7, CARD, ram_gib=128)
    host = replace(facts.machine.host, shared_memory_bytes=64 << 20)
    facts = replace(facts, machine=replace(facts.machine, host=host))
    plan = make_plan(make_spec({**HYBRID, "memory.kv_offload_gib": 8.0}), facts, LOADERS)
    problem = next(problem for problem in plan.problems if problem.cause == "shared_memory")
    assert "--shm-size=9g" in str(problem.remedy)
