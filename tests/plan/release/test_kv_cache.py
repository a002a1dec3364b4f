"""KV cache layouts, against what vLLM printed for real caches."""

from __future__ import annotations

import pytest

from nexus_orch.plan import parse_architecture
from nexus_orch.plan.release.kv_cache import CacheLayout, CacheRules, CacheShape, make_layout
from nexus_orch.types import GIB
from tests.plan.cases import config_of, launches, plan_launch

PRINTED = [
    launch for launch in launches() if "kv_tokens" in launch["measured"] and launch["measured"]["kv_cache_gib"] > 3
]


def _layout(name: str, tensor: int = 1, *, block: int = 16, batched: int = 2048, **rules: bool) -> CacheLayout:
    shape = CacheShape(tensor, 2, 2, block, batched)
    return make_layout(parse_architecture(config_of(name)).layers, shape, CacheRules(**rules))


def test_a_uniform_model_has_one_group() -> None:
    layout = _layout("Qwen/Qwen2.5-7B-Instruct")
    assert layout.block_bytes == 16 * 57344
    assert len(layout.groups) == 1
    blocks = layout.num_blocks(int(57.21 * GIB))
    assert layout.tokens(blocks, 8192) == pytest.approx(1_071_264, abs=128)
    assert layout.concurrency(blocks, 8192) == pytest.approx(130.77, abs=0.01)


def test_sliding_and_full_layers_share_blocks() -> None:
    """gpt-oss-120b on four A100: 45.32 GiB printed 2,640,144 tokens and 284.25 requests of 16,384."""
    layout = _layout("openai/gpt-oss-120b", 4, even_groups=False, tokens_by_concurrency=False)
    assert [group.window for group in layout.groups] == [128, None]
    blocks = layout.num_blocks(int(45.32 * GIB))
    assert layout.tokens(blocks, 16384) == pytest.approx(2_640_144, rel=1e-4)
    assert layout.concurrency(blocks, 16384) == pytest.approx(284.25, abs=0.02)


def test_a_linear_attention_state_raises_the_block() -> None:
    """Qwen3-Next on two H200: blocks of 544 tokens, 973,760 tokens in 47,878,721,024 bytes, 14.77 requests."""
    layout = _layout(
        "Qwen/Qwen3-Next-80B-A3B-Instruct", 2, batched=8192, even_groups=False, tokens_by_concurrency=False
    )
    assert {group.block_size for group in layout.groups} == {544}
    blocks = layout.num_blocks(47_878_721_024)
    assert layout.tokens(blocks, 262144) == 973_760
    assert layout.concurrency(blocks, 262144) == pytest.approx(14.77, abs=0.005)


def test_latent_attention_is_not_divided() -> None:
    name = "deepseek-ai/DeepSeek-V2-Lite"
    assert _layout(name, 1).block_bytes == _layout(name, 4).block_bytes == 16 * 27 * 576 * 2


def test_kv_heads_are_divided_no_further_than_one() -> None:
    name = "Qwen/Qwen2.5-7B-Instruct"  # four KV heads
    assert _layout(name, 4).block_bytes * 4 == _layout(name, 1).block_bytes
    assert _layout(name, 28).block_bytes == _layout(name, 4).block_bytes


def test_pages_of_different_heads_are_made_equal() -> None:
    """Gemma 4's global layers have two wide heads, its sliding ones eight: the smaller page takes more tokens."""
    layout = _layout("google/gemma-4-26B-A4B")
    assert len({group.block_size for group in layout.groups}) == 2


def test_releases_before_0_9_count_every_layer_as_full() -> None:
    old = _layout("openai/gpt-oss-20b", hybrid=False)
    assert len(old.groups) == 1
    assert old.groups[0].window is None
    assert old.block_bytes == 16 * 49152


def test_one_block_is_kept_aside_from_0_30() -> None:
    with_spare, without = _layout("Qwen/Qwen2.5-7B-Instruct", null_block=True), _layout("Qwen/Qwen2.5-7B-Instruct")
    assert with_spare.request_bytes(1600) - without.request_bytes(1600) == without.block_bytes
    assert with_spare.longest(11, 32768) == 160
    assert without.longest(11, 32768) == 176


@pytest.mark.parametrize("blocks", [0, 1, 7, 1000])
def test_the_longest_context_is_the_longest(blocks: int) -> None:
    layout = _layout("openai/gpt-oss-20b")
    longest = layout.longest(blocks, 131072)
    assert layout.request_blocks(longest) <= blocks or longest == 0
    assert longest == 131072 or layout.request_blocks(longest + 1) > blocks


@pytest.mark.parametrize("launch", PRINTED, ids=[f"{launch['name']}-{index}" for index, launch in enumerate(PRINTED)])
def test_printed_tokens_follow_from_the_measured_bytes(launch: dict[str, object]) -> None:
    """Tokens over GiB are the same in the plan and in the log."""
    plan, measured = plan_launch(launch), launch["measured"]
    assert isinstance(measured, dict)
    card = plan.per_gpu[0]
    ours = plan.kv_cache_tokens / (card.kv_cache_bytes / GIB)
    assert ours == pytest.approx(measured["kv_tokens"] / measured["kv_cache_gib"], rel=0.012)
