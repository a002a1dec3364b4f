"""KV cache layouts, against what vLLM printed for real caches."""

from __future__ import annotations

import json

import pytest

from bench.field.launches import DATA
from nexus_orch.plan import parse_architecture
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.release.kv_cache import CacheLayout, CacheRules, CacheShape, make_layout
from nexus_orch.types import GIB
from tests.plan.cases import config_of, launches, make_facts, make_gpu, make_spec, plan_launch

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


ASKED = "--speculative-config", '{"method": "mtp", "num_speculative_tokens": 3}'
CACHED = ("--enable-prefix-caching",)
QWEN = "Qwen3.6-27B-AutoRound-int4.json"


@pytest.mark.parametrize(
    ("run", "tokens"),
    [
        (("0.24.0", 2, "fp8", 262144, (*CACHED, *ASKED)), 300_220),
        (("0.24.0", 2, "fp8", 262144, (*CACHED, *ASKED)), 623_873),
        (("0.27.1", 2, "fp8", 262144, ASKED), 270_930),
        (("0.24.0", 1, "fp8", 262144, CACHED), 1_505_068),
        (("0.24.0", 1, "fp8", 262144, (*CACHED, ASKED[0], ASKED[1].replace("3", "2"))), 1_394_129),
        (("0.27.0", 1, "fp8", 32768, ()), 91_022),
        (("0.27.0", 1, "fp8", 32768, ()), 135_926),
        (("0.27.0", 1, "fp8", 32768, ASKED), 90_112),
        (("0.27.0", 1, "auto", 32768, ()), 76_458),
        (("0.27.0", 2, "auto", 262144, ()), 377_456),
    ],
)
def test_printed_tokens_of_a_model_with_states_are_whole_blocks(
    run: tuple[str, int, str, int, tuple[str, ...]], tokens: int
) -> None:
    """Published launches of Qwen3.6-27B, and of one with the same layers: release, cards, type of the cache, context
    and options, with prefixes cached or not, drafting or not."""
    version, cards, dtype, context, args = run
    config = json.loads((DATA / "configs" / QWEN).read_text())
    facts = make_facts(config, *[make_gpu()] * cards, version=version)
    settings = {"serve.tensor_parallel": cards, "serve.extra_args": args, "model.max_model_len": context}
    if dtype != "auto":
        settings["memory.kv_cache.dtype"] = dtype
    inputs = read_inputs(make_spec(settings), facts, ())
    generation = inputs.generation()
    shape = inputs.cache_shape(generation, 8192, 16, (cards, 1))
    layout = make_layout((*inputs.architecture.layers, *inputs.draft_layers), shape, generation.cache)
    blocks = -(-tokens * layout.request_blocks(context) // context)
    assert layout.tokens(blocks, context) == tokens


def test_mamba_keeps_a_state_of_each_block_in_two_releases() -> None:
    config = config_of("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
    of_a_request = {}
    for version in ("0.25.1", "0.26.0", "0.27.1", "0.28.0"):
        inputs = read_inputs(make_spec({}), make_facts(config, make_gpu(), version=version), ())
        generation = inputs.generation()
        shape = inputs.cache_shape(generation, 8192, 16, (1, 1))
        layout = make_layout(inputs.architecture.layers, shape, generation.cache)
        states = [group for group in layout.groups if group.states is not None]
        of_a_request[version] = {group.blocks(100_000, 8192) for group in states}
    assert of_a_request["0.25.1"] == {1}
    assert of_a_request["0.26.0"] == of_a_request["0.27.1"]
    assert min(of_a_request["0.26.0"]) > 10
    assert of_a_request["0.28.0"] == {2}


def test_context_parallelism_divides_a_request_and_multiplies_what_is_printed() -> None:
    """Kimi-K2-Thinking on eight H200 with 0.11.1: 715,072 tokens, and 5,721,088 with the tokens among all ranks."""
    layers = parse_architecture(config_of("deepseek-ai/DeepSeek-V3")).layers
    for ranks in (1, 8):
        shape = CacheShape(8, 2, 2, 16, 2048, context_parallel=ranks)
        layout = make_layout(layers, shape, CacheRules(tokens_by_concurrency=False))
        assert layout.tokens(44692, 262144) == 715_072 * ranks
        assert layout.concurrency(44692, 262144) == pytest.approx(44692 / 16384 * ranks)


def test_compressed_keys_share_blocks_with_windows_and_states() -> None:
    """DeepSeek-V4-Flash on two H200 (0.23.0): 32.08 GiB printed 2,175,276 tokens and 8.30 requests of 262,144."""
    config = json.loads((DATA / "configs" / "DeepSeek-V4-Flash.json").read_text(encoding="utf-8"))
    layers, shape = parse_architecture(config).layers, CacheShape(2, 1, 2, 16, 8192)
    layout = make_layout(layers, shape, CacheRules(concurrency_by_bytes=True))
    assert layout.block_bytes == 1_039_680
    blocks = layout.num_blocks(int(32.08 * GIB))
    assert layout.tokens(blocks, 262144) == pytest.approx(2_175_276, rel=2e-4)
    assert layout.concurrency(blocks, 262144) == pytest.approx(8.30, abs=0.005)
    counted = make_layout(layers, shape, CacheRules())  # from 0.28.0 on all blocks count alike
    assert counted.request_blocks(262144) == 4378
