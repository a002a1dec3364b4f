"""Launches that people published, against their plans: verdicts, errors, whether the range holds the real cache."""

from __future__ import annotations

from typing import Any

import pytest

from bench.field.launches import Result, measure, read_launches
from nexus_orch.types import GIB
from tests.plan.cases import launches, make_gpu, plan_launch, plan_of

RESULTS = {launch["name"]: measure(launch) for launch in read_launches()}

WRONG = {
    "24g_q25_32b_awq_4096": "its card and its release are inferred; the range reaches down to what failed",
    "h100_gptoss120b_0141_5k": "what preparing MXFP4 weights takes is not known by release",
}
"""Launches whose verdict is wrong, and why."""

OUTSIDE = {
    "l40s_q25_7b_fp8_085": "0.3 % below it; the options were not shown",
    "4xl40s_q3_coder_30b": "0.2 % below it; the release was not stated",
    "5080_5070ti_nano30b_nvfp4": "two different cards: the smaller cache decides, and the larger one is printed",
}
"""Launches whose cache lies outside the range."""


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_each_has_a_plan_and_its_verdict(result: Result) -> None:
    assert result.plan is not None
    assert result.is_right == (result.launch["name"] not in WRONG)


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_the_range_holds_the_real_cache(result: Result) -> None:
    assert (result.is_covered is not False) == (result.launch["name"] not in OUTSIDE)


def test_the_range_holds_nine_of_ten() -> None:
    """Those of the field, and those on which the constants were measured."""
    held = [result.is_covered for result in RESULTS.values() if result.is_covered is not None]
    for launch in launches():
        plan, measured = plan_launch(launch), launch["measured"]
        tokens = measured.get("kv_tokens")
        low, high = plan.prediction.kv_cache_tokens_low, plan.prediction.kv_cache_tokens_high
        if tokens and low is not None and high is not None:
            held.append(low <= tokens <= high)
    assert len(held) > 50
    assert sum(held) >= 0.9 * len(held)


def test_half_are_within_three_per_cent_and_nine_of_ten_within_ten() -> None:
    errors = sorted(abs(result.error) for result in RESULTS.values() if result.error is not None)
    assert errors[len(errors) // 2] <= 0.035
    assert errors[round(0.9 * len(errors)) - 1] <= 0.10


@pytest.mark.parametrize(
    ("extra_args", "counts"),
    [
        ((), True),
        (("--limit-mm-per-prompt", '{"image":2,"video":0}'), True),
        (("--limit-mm-per-prompt", "image=0,video=0"), False),
        (('--limit-mm-per-prompt={"image": 0}',), False),
        (("--language-model-only",), False),
    ],
)
def test_a_vision_tower_is_profiled_where_images_are_served(extra_args: tuple[str, ...], *, counts: bool) -> None:
    """The tower works on as many tokens of images as a batch holds."""
    common: dict[str, Any] = {"memory.strategy": "vram_only", "model.max_model_len": 8192, "memory.enforce_eager": True}
    card = make_gpu(total_bytes=80 * GIB, free_bytes=80 * GIB)
    plan, without = (
        plan_of("Qwen/Qwen3-VL-8B-Instruct", card, version="0.19.1", settings={**common, "serve.extra_args": words})
        for words in (extra_args, ("--language-model-only",))
    )
    assert (plan.per_gpu[0].activation_bytes > without.per_gpu[0].activation_bytes) == counts


def test_memory_that_is_shared_with_the_host_counts_what_the_host_takes() -> None:
    own, shared = (make_gpu(compute_capability=capability) for capability in ((12, 0), (12, 1)))
    plans = [plan_of("Qwen/Qwen2.5-7B-Instruct", card, version="0.24.0") for card in (own, shared)]
    assert plans[1].per_gpu[0].non_torch_bytes - plans[0].per_gpu[0].non_torch_bytes >= 1.8 * GIB


def test_before_latents_whole_heads_are_cached() -> None:
    card = make_gpu(total_bytes=80 * GIB, free_bytes=80 * GIB)
    early, late = (
        plan_of("deepseek-ai/DeepSeek-V2-Lite-Chat", card, version=release) for release in ("0.6.6", "0.7.3")
    )
    assert early.kv_cache_tokens * 8 < late.kv_cache_tokens


def test_a_pinned_number_of_blocks_contradicts_nothing() -> None:
    plan = plan_of("Qwen/Qwen2.5-7B-Instruct", make_gpu(), settings={"memory.kv_cache.max_blocks": 512})
    prediction = plan.prediction
    assert plan.kv_cache_tokens == prediction.kv_cache_tokens_low == prediction.kv_cache_tokens_high
    assert plan.max_model_len <= 512 * 16
    assert plan.max_concurrency >= 1


def test_a_card_that_the_catalogue_lacks_is_said_to_be_one() -> None:
    launch = {**RESULTS["t4_q25_1_5b_072"].launch, "card": "No Such Card 9000"}
    assert "not in the catalogue" in measure(launch).problem


def test_what_packing_takes_is_told_where_it_is_not_counted() -> None:
    """gpt-oss-120b on one H100: 0.14.1 packs its experts for Marlin, 0.11.2 does not."""
    plans = {name: result.plan for name, result in RESULTS.items() if result.plan is not None}
    told = [name for name, plan in plans.items() if any("Marlin" in note for note in plan.notes)]
    assert told == ["h100_gptoss120b_0141_5k"]
