"""Models whose layers keep a state: each request of a batch needs a block of the KV cache for it."""

from __future__ import annotations

import re

import pytest

from nexus_orch.facts.machine.catalogue import describe_card, find_gpu
from nexus_orch.plan.make import make_plan
from nexus_orch.types import Plan
from tests.plan.cases import LOADERS, config_of, make_facts, make_spec

PUBLISHED = {"model.max_model_len": 8192, "memory.gpu_memory_utilization": 0.9, "memory.strategy": "vram_only"}
"""Qwen3.8-27B, which has the layers of Qwen3.6-27B, on an RTX PRO 6000 with 0.29.0: "max_num_seqs (1024) exceeds
available Mamba cache blocks (635)", and with 256 requests 652 blocks, printed as 314,187 tokens."""


def _plan(settings: dict[str, object], version: str = "0.29.0") -> Plan:
    known = find_gpu("RTX PRO 6000 Blackwell Server Edition")
    assert known is not None
    facts = make_facts(config_of("Qwen/Qwen3.6-27B"), describe_card(known), version=version, ram_gib=256)
    return make_plan(make_spec({**PUBLISHED, **settings}), facts, LOADERS)


def test_more_requests_than_blocks_are_refused_with_a_number_that_fits() -> None:
    graphs = {"memory.enforce_eager": False}
    (problem,) = _plan({**graphs, "serve.max_num_seqs": 1024}).problems
    assert (problem.key, problem.cause) == ("serve.max_num_seqs", "no_kv_cache_memory")
    number = re.search(r"serve\.max_num_seqs=(\d+)", str(problem.remedy))
    assert number is not None
    assert _plan({**graphs, "serve.max_num_seqs": int(number[1])}).fits


def test_graphs_are_given_up_for_a_pinned_number_that_is_too_large() -> None:
    plan = _plan({"serve.max_num_seqs": 1024})
    choice = plan.choice("memory.enforce_eager")
    assert plan.fits and choice is not None and choice.value is True
    assert "1,024 requests" in choice.reason


def test_the_engines_own_number_is_lowered_where_it_is_too_large() -> None:
    plan = _plan({})
    choice = plan.choice("serve.max_num_seqs")
    assert plan.fits and choice is not None and choice.value == 256
    assert plan.kv_cache_tokens == pytest.approx(314_187, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "version"), [({"memory.enforce_eager": True}, "0.29.0"), ({}, "0.19.1")], ids=["eager", "before"]
)
def test_without_graphs_or_before_requests_wait(settings: dict[str, object], version: str) -> None:
    assert _plan({**settings, "serve.max_num_seqs": 1024}, version).fits
