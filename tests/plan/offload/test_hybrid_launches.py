"""What launches on H200 cards left for the KV cache, against the plan: page tables of pinned memory included."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from bench.hybrid.predict import read_data
from nexus_orch.compose.run import compose_run
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.release.pinning import Pinning
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.prepare import read_facts
from nexus_orch.types import GIB, MIB, Facts, Plan, RunSpec
from tests.plan.cases import LOADERS

pytestmark = pytest.mark.slow

LAUNCHES = [launch for launch in read_data()["launches"] if "kv_cache" not in launch]
"""Those whose KV cache vLLM found, which nobody disturbed."""
WITHIN_BYTES = 16 * MIB
"""Weights are printed with two digits of a GiB: 5 MiB of it are the print's."""


_plugins = cache(load_plugins)


COMPILED_WITHIN_BYTES = 96 * MIB
"""What compiling takes beside a copy of the embedding differs by model, and the graphs are estimated too."""


@cache
def _prepare(case: str) -> tuple[RunSpec, Facts, Plan]:
    launch = next(launch for launch in LAUNCHES if launch["case"] == case)
    words = ["hardware=h200", "hardware.host.ram_gib=256", "engine.version=0.25.1", f"model={launch['model']}"]
    eager = ["memory.enforce_eager=true"] if launch.get("eager") else []
    spec = compose_run([*words, *launch["overrides"], *eager], project=None)
    facts, _ = read_facts(spec, _plugins(None))
    return spec, facts, make_plan(spec, facts, LOADERS)


def _page_tables(launch: Mapping[str, Any], spec: RunSpec, facts: Facts) -> float:
    """Those of what was really offloaded, were it taken evenly from the layers."""
    stage = read_inputs(spec, facts, ()).weight_layout(1, 1, whole_segments=True).stages[0]
    sizes = [size for layer in stage.parameter_bytes for size in layer]
    share: float = launch["measured"]["offloaded_bytes"] / sum(sizes)
    return share * sum(map(Pinning().page_table_bytes, sizes))


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch["case"])
def test_what_is_taken_beside_weights_and_cache(launch: Mapping[str, Any]) -> None:
    spec, facts, plan = _prepare(launch["case"])
    card, measured = plan.per_gpu[0], launch["measured"]
    cache_bytes = measured["kv_tokens"] * card.kv_cache_bytes / plan.kv_cache_tokens
    taken = card.budget_bytes - measured["weights_gib"] * GIB - cache_bytes
    reserved = card.budget_bytes - card.weights_bytes - card.kv_cache_bytes - card.headroom_bytes
    planned = reserved - card.page_table_bytes + _page_tables(launch, spec, facts)
    assert planned == pytest.approx(taken, abs=_within(launch))


def _within(launch: Mapping[str, Any]) -> int:
    return COMPILED_WITHIN_BYTES if launch["case"].endswith("graphs") else WITHIN_BYTES


def test_the_same_offload_leaves_the_same_cache() -> None:
    """Launches whose amount was pinned, and those without offload."""
    compared = 0
    for launch in LAUNCHES:
        _, _, plan = _prepare(launch["case"])
        offloaded, measured = plan.per_gpu[0].offloaded_bytes, launch["measured"]
        if abs(offloaded - measured["offloaded_bytes"]) <= 0.001 * offloaded:
            token_bytes = plan.per_gpu[0].kv_cache_bytes / plan.kv_cache_tokens
            assert abs(plan.kv_cache_tokens - measured["kv_tokens"]) * token_bytes <= 2 * _within(launch), launch[
                "case"
            ]
            compared += 1
    assert compared >= 8
