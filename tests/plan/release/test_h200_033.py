"""Nine launches of vLLM 0.33.0 on H200 cards: each term of vLLM's own accounting against the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.compose.run import compose_run
from nexus_orch.plan.make import make_plan
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.prepare import read_facts
from nexus_orch.types import GIB, MIB, Plan
from tests.plan.cases import LOADERS

LAUNCHES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "h200_033.json").read_text(encoding="utf-8")
)["launches"]
HELD_OUT = [launch for launch in LAUNCHES if launch["fitted"] is None]
PRINTED_GIB = 0.006
"""Half of the last digit that vLLM prints, and what was rounded before."""

_plugins = cache(load_plugins)


@cache
def _plan(name: str) -> Plan:
    """The plan of a launch with the offload that it had, learned of nothing."""
    launch = next(launch for launch in LAUNCHES if launch["name"] == name)
    words = ["hardware=h200", "hardware.host.ram_gib=256", "engine.version=0.33.0", f"model={launch['model']}"]
    if launch["offloaded_gib"]:
        amount = launch["offloaded_gib"] - 0.002
        words += [f"memory.cpu_offload_gib={amount:.3f}", "memory.offload_backend=prefetch"]
    spec = compose_run([*words, *launch["overrides"]], project=None)
    facts, _ = read_facts(spec, _plugins(None))
    facts = replace(facts, engine=replace(facts.engine, flashinfer=launch["flashinfer"]))
    return make_plan(spec, facts, LOADERS)


def _each(*, key: str | None = None) -> pytest.MarkDecorator:
    chosen = [launch for launch in LAUNCHES if key is None or launch["measured"].get(key) is not None]
    return pytest.mark.parametrize("launch", chosen, ids=[launch["name"] for launch in chosen])


@_each()
def test_weights_and_cache(launch: Mapping[str, Any]) -> None:
    plan, measured = _plan(launch["name"]), launch["measured"]
    card = plan.per_gpu[0]
    assert card.weights_bytes / GIB == pytest.approx(measured["weights_gib"], abs=PRINTED_GIB)
    each = card.kv_cache_bytes / plan.kv_cache_tokens
    assert abs(plan.kv_cache_tokens - measured["kv_tokens"]) * each <= 48 * MIB


@_each(key="consumed_gib")
def test_what_is_consumed(launch: Mapping[str, Any]) -> None:
    card = _plan(launch["name"]).per_gpu[0]
    consumed = card.weights_bytes + card.static_pool_bytes + card.non_torch_bytes
    assert consumed / GIB == pytest.approx(launch["measured"]["consumed_gib"], abs=0.02)


@_each(key="activation_gib")
def test_the_peak_above_it(launch: Mapping[str, Any]) -> None:
    measured = launch["measured"]
    peak = measured["activation_gib"] - (measured["graph_estimate_gib"] or 0)
    assert _plan(launch["name"]).per_gpu[0].activation_bytes / GIB == pytest.approx(peak, abs=0.045)


@_each(key="graph_estimate_gib")
def test_the_graphs_that_are_reserved(launch: Mapping[str, Any]) -> None:
    reserved = _plan(launch["name"]).per_gpu[0].cuda_graph_bytes / GIB
    assert reserved == pytest.approx(launch["measured"]["graph_estimate_gib"], abs=0.02)


def test_the_range_holds_every_launch() -> None:
    for launch in LAUNCHES:
        prediction, tokens = _plan(launch["name"]).prediction, launch["measured"]["kv_tokens"]
        assert prediction.kv_cache_tokens_low is not None and prediction.kv_cache_tokens_high is not None
        assert prediction.kv_cache_tokens_low <= tokens <= prediction.kv_cache_tokens_high, launch["name"]


def test_what_was_said_before_the_three_later_launches_was_near() -> None:
    told = [launch for launch in LAUNCHES if "planned_before" in launch]
    errors = [launch["planned_before"]["kv_tokens"] / launch["measured"]["kv_tokens"] - 1 for launch in told]
    assert [round(error, 3) for error in errors] == [0.037, -0.005, 0.01]


def test_two_cards_answer_one_request_as_fast_as_predicted() -> None:
    launch = next(launch for launch in LAUNCHES if launch["name"] == "q14-tp2")
    predicted = _plan("q14-tp2").prediction.decode_tokens_per_second
    assert predicted == pytest.approx(launch["measured"]["one_request_tokens_per_second"], rel=0.01)


def test_some_are_held_out() -> None:
    assert len(HELD_OUT) >= len(LAUNCHES) // 3


def test_flashinfer_counts_unless_it_is_known_to_be_absent() -> None:
    """It has never been measured: the plan is on the safe side, and the sampler can be switched off."""
    spec = compose_run(["hardware=h200", "engine.version=0.33.0", "model=qwen7b", "memory=vram_only"], project=None)
    facts, _ = read_facts(spec, _plugins(None))

    def peak(*, known: bool | None, **env: str) -> int:
        changed = replace(facts, engine=replace(facts.engine, flashinfer=known))
        told = replace(spec, engine=replace(spec.engine, env=env))
        return make_plan(told, changed, LOADERS).per_gpu[0].activation_bytes

    assert peak(known=True) == peak(known=None) > peak(known=False)
    assert peak(known=True, VLLM_USE_FLASHINFER_SAMPLER="0") == peak(known=False)
