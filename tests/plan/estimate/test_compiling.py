"""The first start of a compiled model needs a copy of the embedding: where, when, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.hybrid.predict import settle_case
from nexus_orch.plan.make import make_plan
from nexus_orch.types import COMPILED_PEAK, GIB, MIB, PASS_PEAK, Lesson, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

Q7, LLAMA, SEES = "Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
EMBEDDING = 152064 * 3584 * 2
WORKSPACE = 8320 * 1024
SMALL_BATCH = {"serve.max_num_batched_tokens": 2048, "serve.max_num_seqs": 16}


def _plan(model: str = Q7, settings: Mapping[str, Any] | None = None, version: str = "0.25.1", cards: int = 1) -> Plan:
    facts = make_facts(model, *[make_gpu(total_bytes=80 * GIB, free_bytes=79 * GIB)] * cards, version=version)
    return make_plan(make_spec({**SMALL_BATCH, **(settings or {})}), facts, LOADERS)


def _peaks(plan: Plan) -> list[int]:
    return [card.activation_bytes for card in plan.per_gpu]


def test_the_embedding_is_the_peak_of_a_small_batch() -> None:
    compiled, eager = _plan(), _plan(settings={"memory.enforce_eager": True})
    assert _peaks(compiled) == [EMBEDDING + WORKSPACE]
    assert _peaks(eager)[0] < 400 * MIB
    assert any("copy of the embedding" in note for note in compiled.notes)
    assert not any("copy of the embedding" in note for note in eager.notes)


def test_a_later_start_has_what_the_pass_alone_leaves() -> None:
    """The high end of the estimate reaches so far."""
    compiled, old = _plan(), _plan(version="0.17.1")
    freed = compiled.per_gpu[0].activation_bytes - _peaks(_plan(settings={"memory.enforce_eager": True}))[0]
    token_bytes = compiled.per_gpu[0].kv_cache_bytes / compiled.kv_cache_tokens
    assert (compiled.prediction.kv_cache_tokens_high or 0) - compiled.kv_cache_tokens >= freed // token_bytes
    reach = (compiled.prediction.kv_cache_tokens_high or 0) - compiled.kv_cache_tokens
    assert reach > (old.prediction.kv_cache_tokens_high or 0) - old.kv_cache_tokens


def test_a_large_batch_needs_more_than_the_embedding() -> None:
    plan = _plan(settings={"serve.max_num_batched_tokens": 32768})
    assert _peaks(plan)[0] > EMBEDDING + WORKSPACE
    assert not any("copy of the embedding" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("model", "settings", "version"),
    [
        (Q7, {}, "0.17.1"),
        (Q7, {"memory.kv_cache.size_gib": 20.0}, "0.25.1"),
        (SEES, {}, "0.25.1"),
    ],
    ids=["not seen before torch 2.11", "the cache is given", "the embedding is not compiled"],
)
def test_where_it_does_not_count(model: str, settings: Mapping[str, Any], version: str) -> None:
    plan = _plan(model, settings, version)
    assert _peaks(plan) == _peaks(_plan(model, {**settings, "memory.enforce_eager": True}, version))


def test_ranks_share_the_embedding_and_later_stages_have_none() -> None:
    parallel = _plan(settings={"serve.tensor_parallel": 2}, cards=2)
    assert _peaks(parallel) == [EMBEDDING // 2 + WORKSPACE] * 2
    first, second = _peaks(_plan(LLAMA, {"serve.pipeline_parallel": 2, "serve.tensor_parallel": 1}, cards=2))
    assert first == 128256 * 4096 * 2 + WORKSPACE
    assert second < first / 2


def _learned(key: str, measured: int, settings: Mapping[str, Any] | None = None) -> Plan:
    facts = make_facts(Q7, make_gpu(total_bytes=80 * GIB, free_bytes=79 * GIB), version="0.25.1")
    lesson = Lesson(key, measured, "measured by the last start")
    return make_plan(make_spec({**SMALL_BATCH, **(settings or {})}), facts, LOADERS, [lesson])


def test_what_a_later_start_measured_is_no_promise_for_the_first() -> None:
    """The high end is what it had."""
    plan = _learned(COMPILED_PEAK, 400 * MIB)
    assert _peaks(plan) == [EMBEDDING + WORKSPACE]
    token_bytes = plan.per_gpu[0].kv_cache_bytes / plan.kv_cache_tokens
    reach = ((plan.prediction.kv_cache_tokens_high or 0) - plan.kv_cache_tokens) * token_bytes
    assert reach == pytest.approx(EMBEDDING + WORKSPACE - 400 * MIB + 64 * MIB, rel=0.01)


def test_a_measured_peak_of_compiling_says_nothing_of_the_pass() -> None:
    """Neither of a later start, nor of one that does not compile."""
    measured = EMBEDDING + 50 * MIB
    plan = _learned(COMPILED_PEAK, measured)
    assert _peaks(plan) == [measured]
    assert plan.prediction.kv_cache_tokens_high is not None
    token_bytes = plan.per_gpu[0].kv_cache_bytes / plan.kv_cache_tokens
    assert (plan.prediction.kv_cache_tokens_high - plan.kv_cache_tokens) * token_bytes > 0.7 * EMBEDDING
    eager = {"memory.enforce_eager": True}
    assert _peaks(_learned(COMPILED_PEAK, measured, eager)) == _peaks(_plan(settings=eager))
    assert _peaks(_learned(PASS_PEAK, 500 * MIB, eager)) == [500 * MIB]


def test_a_measured_peak_beyond_that_of_compiling_stands() -> None:
    assert _peaks(_learned(COMPILED_PEAK, 2 * GIB)) == [2 * GIB]


@pytest.mark.parametrize("memory", ["vram_only", None])
@pytest.mark.parametrize("gib", [15.6, 16.0, 16.2, 16.4, 16.8, 17.2, 18.0])
def test_compiling_does_not_take_the_context_away(gib: float, memory: str | None) -> None:
    """Where it would, the run does without, and no weights leave the card for it."""
    facts = make_facts(Q7, make_gpu(total_bytes=int(gib * GIB), free_bytes=int((gib - 0.1) * GIB)), version="0.33.0")
    plan = make_plan(make_spec({"memory.strategy": memory} if memory else {}), facts, LOADERS)
    eager = make_plan(make_spec({"memory.strategy": "vram_only", "memory.enforce_eager": True}), facts, LOADERS)
    if memory is None and plan.loader == "hybrid":
        assert plan.per_gpu[0].offloaded_bytes
        return
    surely, wanted = (found.prediction.kv_cache_tokens_low or 0 for found in (plan, eager))
    assert surely >= min(4096, wanted)
    assert plan.max_model_len >= min(4096, eager.max_model_len)


def test_a_launch_that_was_called_fitting_and_failed() -> None:
    """On an H200 vLLM found -0.24 GiB for the KV cache (tests/data/logs, q7_compiling_leaves_no_cache)."""
    words = ["memory=hybrid", "memory.gpu_memory_utilization=0.108", "model.max_model_len=2048"]
    taken = ["memory.offload_backend=uva", "memory.cpu_offload_gib=0.1", "memory.enforce_eager=false"]
    failed = settle_case("qwen7b", [*words, *taken], ())
    assert failed.kv[0] == pytest.approx(-0.24 * GIB, abs=0.02 * GIB)
    assert not failed.fits_context
    assert settle_case("qwen7b", words, ()).is_comfortable


def test_compiling_alone_can_be_what_does_not_fit() -> None:
    """Then the run does without, rather than not at all."""
    facts = make_facts(Q7, make_gpu(total_bytes=16 * GIB, free_bytes=int(15.9 * GIB)), version="0.25.1")
    settings = {"memory.strategy": "vram_only", "memory.gpu_memory_utilization": 0.98, "model.max_model_len": 4096}
    plan = make_plan(make_spec({**SMALL_BATCH, **settings}), facts, LOADERS)
    assert plan.fits
    assert plan.settings["memory.enforce_eager"] is True
    assert not make_plan(make_spec({**SMALL_BATCH, **settings, "memory.enforce_eager": False}), facts, LOADERS).fits
