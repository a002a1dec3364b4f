"""The hybrid loader: the least offload, by the engine's own grain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.types import GIB, WorkloadSpec
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec, plan_of

HYBRID = LOADERS["hybrid"]
CARD = make_gpu()
Q14, MOE = "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3-30B-A3B"


@pytest.mark.parametrize(
    ("model", "version", "settings", "wsl", "word"),
    [
        (Q14, "0.4.3", {}, False, "0.5.3"),
        ("Qwen/Qwen2.5-14B-Instruct-AWQ", "0.11.2", {}, False, "awq"),
        ("ai21labs/Jamba-v0.1", "0.12.0", {}, False, "Mamba"),
        ("ai21labs/Jamba-v0.1", "0.19.1", {"memory.offload_backend": "uva"}, False, "Mamba"),
        (Q14, "0.16.0", {}, True, "WSL"),
        (Q14, "0.11.2", {"memory.offload_backend": "prefetch"}, False, "prefetch"),
    ],
)
def test_what_a_release_cannot_offload(
    model: str, version: str, settings: dict[str, Any], wsl: bool, word: str
) -> None:
    refusal = HYBRID.supports(make_spec(settings), make_facts(model, CARD, version=version, is_wsl=wsl))
    assert refusal is not None
    assert word in refusal.reason
    assert refusal.cause == "offload_unsupported"
    assert HYBRID.supports(make_spec(), make_facts(model, CARD, version="0.32.0", is_wsl=wsl)) is None


@pytest.mark.parametrize(("version", "backend"), [("0.19.1", "prefetch"), ("0.22.1", "uva")])
def test_where_states_forbid_reading_in_place_layers_are_copied_ahead(version: str, backend: str) -> None:
    plan = plan_of("ai21labs/Jamba-v0.1", make_gpu(total_bytes=100 * GIB), version=version, ram_gib=256)
    assert plan.fits
    assert plan.settings["memory.offload_backend"] == backend


def test_nothing_is_offloaded_when_everything_fits() -> None:
    plan = plan_of("Qwen/Qwen2.5-7B-Instruct", CARD, settings={"memory.strategy": "hybrid"})
    assert plan.fits
    assert plan.per_gpu[0].offloaded_bytes == 0
    assert plan.settings["memory.cpu_offload_gib"] == 0
    assert plan.host.pinned_bytes == 0


def test_a_smaller_offload_would_not_do() -> None:
    """One layer less leaves too little for the wanted context."""
    plan = plan_of(Q14, CARD, settings={"memory.offload_backend": "uva"})
    offload = plan.settings["memory.cpu_offload_gib"]
    assert 4 < offload < 9
    less = {"memory.offload_backend": "uva", "memory.cpu_offload_gib": offload - 1.2, "model.max_model_len": 4096}
    assert plan_of(Q14, CARD, settings={**less, "memory.strategy": "hybrid"}).kv_cache_tokens < plan.kv_cache_tokens
    assert plan.kv_cache_tokens < 3 * 4096


def test_less_is_offloaded_than_by_the_rule_of_sixty_percent() -> None:
    plan = plan_of(Q14, CARD)
    card = plan.per_gpu[0]
    assert card.offloaded_bytes < 0.5 * 0.6 * (card.weights_bytes + card.offloaded_bytes)


def test_a_pinned_offload_is_taken_as_it_is() -> None:
    plan = plan_of(Q14, CARD, settings={"memory.cpu_offload_gib": 12.0, "memory.offload_backend": "uva"})
    choice = plan.choice("memory.cpu_offload_gib")
    assert choice is not None
    assert (choice.value, choice.origin) == (12.0, "pinned")
    assert 12 * GIB <= plan.per_gpu[0].offloaded_bytes < 12.3 * GIB
    assert plan.loader == "hybrid"


def test_long_prompts_and_batches_are_prefetched() -> None:
    plan = plan_of(Q14, CARD)
    assert plan.settings["memory.offload_backend"] == "prefetch"
    size, chosen = plan.settings["memory.prefetch.group_size"], plan.settings["memory.prefetch.num_in_group"]
    card = plan.per_gpu[0]
    layer = card.static_pool_bytes
    moved = sum(1 for index in range(48) if index % size >= size - chosen)
    assert card.offloaded_bytes == moved * layer


def test_experts_of_one_request_are_read_in_place() -> None:
    facts = make_facts(MOE, CARD, ram_gib=256)
    one = replace(make_spec(), workload=WorkloadSpec(concurrency=1, input_tokens=256, output_tokens=256))
    many = replace(make_spec(), workload=WorkloadSpec(concurrency=64, input_tokens=2048, output_tokens=64))
    from nexus_orch.plan.make import make_plan

    assert make_plan(one, facts, LOADERS).settings["memory.offload_backend"] == "uva"
    assert make_plan(many, facts, LOADERS).settings["memory.offload_backend"] == "prefetch"


def test_releases_without_prefetch_use_uva_without_naming_it() -> None:
    plan = plan_of(Q14, CARD, version="0.11.2")
    assert plan.loader == "hybrid"
    assert "memory.offload_backend" not in plan.settings
    assert plan.settings["memory.cpu_offload_gib"] > 0


def test_pinned_memory_is_rounded_up_to_powers_of_two() -> None:
    """832 MiB for a layer of 444.5 MiB (Qwen2.5-7B on an H100)."""
    small = make_gpu(total_bytes=int(12 * GIB), free_bytes=int(11.8 * GIB))
    plan = plan_of("Qwen/Qwen2.5-7B-Instruct", small, version="0.30.0", settings={"memory.offload_backend": "uva"})
    ratio = plan.host.pinned_bytes / plan.per_gpu[0].offloaded_bytes
    assert ratio == pytest.approx(832 / 444.5, rel=0.01)


def test_the_v1_runner_is_planned_where_the_v2_runner_ignores_offload() -> None:
    """0.25.1: the V1 runner's profile takes more, so that more must be offloaded than the V2 runner would need."""
    ignored, wired = plan_of(Q14, CARD, version="0.25.1"), plan_of(Q14, CARD, version="0.28.0")
    assert ignored.per_gpu[0].activation_bytes >= wired.per_gpu[0].activation_bytes
    assert ignored.per_gpu[0].offloaded_bytes > 0
