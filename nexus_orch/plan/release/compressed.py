"""The KV cache of DeepSeek V4: layers of several page sizes share blocks (vllm/v1/core/kv_cache_utils.py, 0.20.0)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nexus_orch.plan.model.architecture import CompressedCache, round_up

BLOCK = 256
"""Tokens of a block (sparse_swa.py: get_preferred_block_size)."""
WINDOW_BLOCK = 64
STATE_BLOCKS: Mapping[int, int] = {4: 4, 128: 8}
"""Tokens of a block of the compressor's states, so that their page is no larger than one of keys (compressor.py)."""
ALIGNMENT = 576
TOKEN_BYTES = 584
"""448 bytes in FP8, 64 rotary elements in bfloat16, 8 scales: FlashMLA's fp8_ds_mla."""
STATE_BYTES = 8
"""A key and its score in float32."""


def page_bytes(cache: CompressedCache) -> tuple[int, ...]:
    """The pages of what a layer keeps of all tokens: compressed keys, and those of its indexer with a scale each."""
    if cache.ratio == 1:
        return ()
    kept = BLOCK // cache.ratio
    keys = round_up(kept * TOKEN_BYTES, ALIGNMENT)
    return (keys, round_up(kept * (cache.index_dim + 4), ALIGNMENT)) if cache.index_dim else (keys,)


def state_page_bytes(cache: CompressedCache) -> int:
    """A block of the compressor's states: windows of four overlap, so that they keep two sets."""
    sets = 2 if cache.ratio == 4 else 1
    return STATE_BLOCKS[cache.ratio] * sets * cache.head_dim * STATE_BYTES


def layers_of_a_block(layers: Mapping[CompressedCache, int]) -> tuple[int, dict[int, int]]:
    """How many layers share one place at most, and the places of each page size in a block: the number that wastes the
    least over windows and states (_approximate_gcd), at least that of the layers with keys of the same size."""
    full: Counter[int] = Counter()
    for cache, count in layers.items():
        for page in page_bytes(cache):
            full[page] += count
    by_ratio: Counter[int] = Counter()
    for cache, count in layers.items():
        by_ratio[cache.ratio] += count
    first = max(full.values(), default=sum(layers.values()))
    counts = [first, sum(layers.values()), *(by_ratio[ratio] for ratio in STATE_BLOCKS if by_ratio[ratio])]
    size = max(range(first, max(counts) + 1), key=lambda width: (-sum(-count % width for count in counts), width))
    window = round_up(WINDOW_BLOCK * TOKEN_BYTES, ALIGNMENT)
    places = dict(full)
    places[window] = max(places.get(window, 0), min(size, sum(layers.values())))
    return size, places
