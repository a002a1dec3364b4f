"""Changes that are worth a try, the gain that counts, and settings that are never moved back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.judge.serving.advice import (
    contradicts,
    describe_helpless,
    judge_gain,
    make_moves,
    takes,
)
from nexus_orch.types import Choice, Finding, Plan, Variation
from tests.plan.cases import make_gpu, plan_of

MODEL = "Qwen/Qwen2.5-7B-Instruct"
LARGE = "Qwen/Qwen2.5-14B-Instruct"
FULL = Finding("preemptions", 300, "17 preemptions a minute", running=12, waiting=12, kv_cache_usage=1.0)
LOW_RAM = Finding("ram_low", 300, "2.0 of 64.0 GiB RAM are free", peak_kv_cache_usage=0.2)


def _with(plan: Plan, **settings: float | str | None) -> Plan:
    """A plan with other settings and the same memory."""
    others = [choice for choice in plan.choices if choice.key.replace(".", "__") not in settings]
    changed = [Choice(key.replace("__", "."), value, "learned", "") for key, value in settings.items()]
    return replace(plan, choices=(*others, *[choice for choice in changed if choice.value is not None]))


def test_twice_the_cache_holds_twice_the_requests() -> None:
    before = plan_of(MODEL, make_gpu())
    after = plan_of(MODEL, make_gpu(), settings={"memory.kv_cache.dtype": "fp8"})
    gain = judge_gain(FULL, before, after)
    assert gain is not None
    assert gain.effect == "would hold 24 requests instead of 12"


def test_a_small_gain_does_not_count() -> None:
    before = plan_of(MODEL, make_gpu())
    assert judge_gain(FULL, before, replace(before, kv_cache_tokens=int(before.kv_cache_tokens * 1.15))) is None
    assert judge_gain(FULL, before, replace(before, kv_cache_tokens=int(before.kv_cache_tokens * 1.25))) is not None


def test_what_nobody_asks_for_is_no_gain() -> None:
    before = plan_of(MODEL, make_gpu())
    twice = replace(before, kv_cache_tokens=2 * before.kv_cache_tokens)
    assert judge_gain(replace(FULL, waiting=1), before, twice) is None


def test_what_does_not_surely_fit_is_no_gain() -> None:
    before = plan_of(MODEL, make_gpu())
    twice = replace(before, kv_cache_tokens=2 * before.kv_cache_tokens)
    assert judge_gain(FULL, before, replace(twice, fits=False)) is None
    assert judge_gain(FULL, before, replace(twice, prediction=replace(twice.prediction, borderline=True))) is None


def test_speed_that_is_lost_counts_against_it() -> None:
    before = plan_of(LARGE, make_gpu(), ram_gib=128)
    slow = replace(before.prediction, decode_tokens_per_second=(before.prediction.decode_tokens_per_second or 0) / 2)
    twice = replace(before, kv_cache_tokens=2 * before.kv_cache_tokens, prediction=slow)
    assert judge_gain(FULL, before, twice) is None


def test_less_ram_is_what_counts_where_ram_is_low() -> None:
    before = plan_of(MODEL, settings={"memory.kv_cache.size_gib": 8})
    after = plan_of(MODEL, settings={"memory.kv_cache.size_gib": 2})
    gain = judge_gain(LOW_RAM, before, after)
    assert gain is not None and "GiB of RAM instead of" in gain.effect
    assert judge_gain(LOW_RAM, after, before) is None


def test_a_setting_that_the_release_dropped_is_not_taken() -> None:
    plan = plan_of(MODEL, make_gpu())
    narrow = Variation("narrow_cache", {"memory.kv_cache.dtype": "fp8"})
    assert not takes(plan, narrow)
    assert takes(_with(plan, memory__kv_cache__dtype="fp8"), narrow)


def test_moves_have_a_direction() -> None:
    plan = plan_of(MODEL, make_gpu())
    after = _with(plan, memory__gpu_memory_utilization=0.95, memory__kv_cache__dtype="fp8", serve__port=8001)
    assert make_moves(plan, after) == {"memory.gpu_memory_utilization": 1, "memory.kv_cache.dtype": 0}
    assert make_moves(after, plan)["memory.gpu_memory_utilization"] == -1


def test_nothing_is_moved_back_and_what_has_no_order_moves_once() -> None:
    assert contradicts({"a": 1}, {"a": -1})
    assert contradicts({"a": 0}, {"a": 0})
    assert not contradicts({"a": 1}, {"a": 1, "b": -1})


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(-4, 4), min_size=1), max_size=30))
def test_adjustments_that_contradict_nothing_never_return_to_an_earlier_plan(wishes: list[dict[str, int]]) -> None:
    """Whatever is proposed: along the accepted plans every setting goes one way, so no plan comes twice."""
    base = plan_of(MODEL, make_gpu())
    current = _with(base, a=0, b=0, c=0)
    moved: dict[str, int] = {}
    seen = [current.settings]
    for wish in wishes:
        after = _with(current, **wish)
        moves = make_moves(current, after)
        if not moves or contradicts(moved, moves):
            continue
        moved |= moves
        current = after
        assert current.settings not in seen
        seen.append(current.settings)


def test_when_nothing_helps_the_user_still_gets_a_word() -> None:
    assert "serve.max_num_seqs=12" in describe_helpless(FULL)
    for kind in ("kv_cache_full", "bus_bound", "ram_low", "swapping"):
        assert describe_helpless(Finding(kind, 300, "")).startswith("no other plan")
