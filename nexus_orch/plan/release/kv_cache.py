"""vLLM's KV cache: pages, groups and blocks (vllm/v1/core/kv_cache_utils.py and kv_cache_interface.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, lcm

from nexus_orch.plan.model.architecture import (
    AttentionCache,
    CompressedCache,
    Layer,
    StateCache,
    round_up,
)
from nexus_orch.plan.release import compressed

ATTENTION_BLOCK_MULTIPLE = 16
"""FlashAttention's block sizes are multiples of 16; a block raised to a Mamba state's size keeps to that."""
LATENT_BLOCK_MULTIPLE = 128
"""Kernels of latent attention want the blocks of 128 tokens where they are raised."""


@dataclass(frozen=True)
class CacheRules:
    """The rules of a KV cache that differ between releases. See `nexus_orch.plan.release.generations`."""

    hybrid: bool = True
    """Layers of different kinds get groups of their own (V1 from 0.9); before, all count as full attention."""
    even_groups: bool = True
    """Kinds that differ by less than half in number are padded to the larger one (from 0.12)."""
    null_block: bool = False
    """One block is kept aside (from 0.30)."""
    latents: bool = True
    """Multi-head latent attention caches one vector for all heads; else whole heads."""
    prefixes_of_states: bool = False
    """Models with states cache prefixes by default (from 0.26)."""
    state_of_each_block: bool = True
    """With prefixes cached, Mamba keeps a state for each block of a request (before 0.28); else two for a request."""
    batches_in_flight: bool = False
    """A window holds the tokens of all batches that are under way (from 0.26)."""
    tokens_by_concurrency: bool = True
    """How the log prints the tokens: concurrency times max_model_len (from 0.22), else blocks over groups."""
    concurrency_by_bytes: bool = False
    """The log's concurrency weighs the blocks of a group by its first layer's page (before 0.28)."""


@dataclass(frozen=True)
class CacheGroup:
    """Layers that share one block table. `window` limits what a request holds. A group of states has `states` blocks a
    request (None: no states), and one more for each block of tokens where `each_block` is set."""

    layers: int
    block_size: int
    window: int | None = None
    states: int | None = None
    each_block: bool = False
    context_parallel: int = 1
    page_share: float = 1.0
    """The page of its first layer, of the page of the first group's."""

    def blocks(self, tokens: int, batched_tokens: int) -> int:
        """Blocks that one request of `tokens` takes (kv_cache_interface.py: max_memory_usage_bytes)."""
        if self.states is not None:
            return self.states + (-(-tokens // self.block_size) if self.each_block else 0)
        if self.window is None:
            return -(-tokens // (self.context_parallel * self.block_size))
        return -(-min(self.window - 1 + batched_tokens, tokens) // self.block_size) + 1


@dataclass(frozen=True)
class CacheLayout:
    """The cache of one rank. `block_bytes` is what one block takes over all layers of a group."""

    block_bytes: int
    groups: tuple[CacheGroup, ...]
    rules: CacheRules
    batched_tokens: int

    def num_blocks(self, kv_bytes: int) -> int:
        return max(0, kv_bytes) // self.block_bytes if self.block_bytes else 0

    def request_blocks(self, tokens: int) -> int:
        return sum(group.blocks(tokens, self.batched_tokens) for group in self.groups)

    def request_bytes(self, tokens: int, requests: int = 1) -> int:
        """Bytes of the least cache for `requests` requests of `tokens` tokens."""
        spare = 1 if self.rules.null_block else 0
        return (self.request_blocks(tokens) * requests + spare) * self.block_bytes

    def concurrency(self, num_blocks: int, tokens: int) -> float:
        """How many requests of `tokens` fit at once, as the engine prints it: the null block counts as any other.

        Measured with 0.32.0 on the CPU: 1 GiB of SmolLM2-135M is 364 blocks, printed as 5.69 requests of 64 blocks.
        """
        blocks = self.request_blocks(tokens)
        if self.rules.concurrency_by_bytes:
            blocks = ceil(sum(group.blocks(tokens, self.batched_tokens) * group.page_share for group in self.groups))
        return max(0, num_blocks) / blocks if blocks else 0.0

    def tokens(self, num_blocks: int, max_model_len: int) -> int:
        """The tokens that this release prints for `num_blocks` blocks."""
        if not self.groups:
            return 0
        if self.rules.tokens_by_concurrency:
            return int(self.concurrency(num_blocks, max_model_len) * max_model_len)
        least = min(group.block_size for group in self.groups)
        return num_blocks // len(self.groups) * least * max(group.context_parallel for group in self.groups)

    def holds(self, num_blocks: int, tokens: int, requests: int = 1) -> bool:
        """Whether `requests` requests of `tokens` tokens fit at once."""
        usable = num_blocks - (1 if self.rules.null_block else 0)
        return self.request_blocks(tokens) * requests <= usable

    def longest(self, num_blocks: int, limit: int, requests: int = 1) -> int:
        """The longest context, at most `limit`, of which `requests` fit at once; 0 when none does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.holds(num_blocks, middle, requests):
                low = middle
            else:
                high = middle - 1
        return low


@dataclass(frozen=True)
class _Kind:
    """Layers with the same cache specification."""

    page_bytes: int
    block_size: int
    window: int | None
    is_state: bool
    each_block: bool = False


def token_bytes(cache: AttentionCache, tensor_parallel: int, dtype_bytes: int) -> int:
    """Bytes of one token in one layer on one rank. KV heads are repeated when there are more ranks than heads."""
    if cache.latent:
        return cache.key_dim * dtype_bytes + cache.index_bytes
    heads = max(1, -(-cache.kv_heads // tensor_parallel))
    return heads * (cache.key_dim + cache.value_dim) * dtype_bytes


def state_bytes(
    cache: StateCache,
    tensor_parallel: int,
    model_dtype_bytes: int,
    *,
    draft_tokens: int = 0,
    element_bytes: int | None = None,
) -> int:
    """Bytes of one sequence's state in one layer on one rank (mamba_utils.py: the convolution keeps what is drafted,
    too). `element_bytes` of the state itself, where the user asks for a type."""
    ssm = element_bytes or (4 if cache.ssm_float32 else model_dtype_bytes)
    conv = -(-(cache.conv_elements + cache.conv_width * draft_tokens) // tensor_parallel)
    return conv * model_dtype_bytes + -(-cache.ssm_elements // tensor_parallel) * ssm


@dataclass(frozen=True)
class CacheShape:
    """The settings that decide the pages of a run beside the layers themselves."""

    tensor_parallel: int
    dtype_bytes: int
    model_dtype_bytes: int
    block_size: int
    batched_tokens: int
    """Tokens that a request may have under way at once."""
    attention_heads: int = 0
    """Heads of the model, which a release that knows no latents caches."""
    draft_tokens: int = 0
    context_parallel: int = 1
    caches_prefixes: bool = False
    """Prefixes of requests are cached, so that states are kept at the ends of blocks."""
    state_mode: str | None = None
    """How states are kept then, as the user asks for: "all" or "align"."""
    state_element_bytes: int | None = None
    """Bytes of an element of a state, as the user asks for."""

    def state_bytes(self, cache: StateCache) -> int:
        return state_bytes(
            cache,
            self.tensor_parallel,
            self.model_dtype_bytes,
            draft_tokens=self.draft_tokens,
            element_bytes=self.state_element_bytes,
        )

    def keeps_each_block(self, cache: StateCache, rules: CacheRules) -> bool:
        """Whether a state is kept for each block of a request."""
        wanted = self.state_mode or ("all" if rules.state_of_each_block else "align")
        return self.caches_prefixes and wanted == "all" and cache.chunk > 0


WHOLE_HEAD = 256
"""Elements that a key and a value of latent attention are padded to where whole heads are cached."""


def make_layout(layers: Sequence[Layer], shape: CacheShape, rules: CacheRules) -> CacheLayout:
    """The cache layout of one pipeline stage."""
    packed = Counter(layer.cache for layer in layers if isinstance(layer.cache, CompressedCache))
    if packed:
        return _compressed_layout(packed, shape, rules)
    found = _kinds(layers, shape, rules)
    kinds = found if _is_one_type(found) else _same_pages(found)
    if not kinds:
        return CacheLayout(0, (), rules, shape.batched_tokens)
    if len(kinds) == 1 or not rules.hybrid or _is_one_type(kinds):
        total = sum(kind.page_bytes * count for kind, count in kinds.items())
        leading = min(kinds, key=lambda kind: kind.is_state)
        return CacheLayout(total, (_group(leading, sum(kinds.values()), shape),), rules, shape.batched_tokens)
    least, most = min(kinds.values()), max(kinds.values())
    size = most if rules.even_groups and most < 1.5 * least else least
    split = tuple(
        _group(kind, min(size, count), shape) for kind, count in kinds.items() for _ in range(-(-count // size))
    )
    page = max(kind.page_bytes for kind in kinds)
    return CacheLayout(page * size, split, rules, shape.batched_tokens)


def _compressed_layout(layers: Counter[CompressedCache], shape: CacheShape, rules: CacheRules) -> CacheLayout:
    """DeepSeek V4's: one group of all compressed keys, groups of windows, one of the states for each compression.

    DeepSeek-V4-Flash on two H200 (0.23.0): 32.08 GiB are 33,134 blocks of 1,039,680 bytes, and 3,993 of them a request
    of 262,144 tokens.
    """
    size, places = compressed.layers_of_a_block(layers)
    count = sum(layers.values())
    keys = max(places)
    found = [CacheGroup(count, compressed.BLOCK)]
    window = next(iter(layers)).window
    found += [CacheGroup(min(size, count), compressed.WINDOW_BLOCK, window)] * -(-count // size)
    for ratio, block in compressed.STATE_BLOCKS.items():
        alike = next((cache for cache in layers if cache.ratio == ratio), None)
        if alike is not None:
            kept, share = ratio * (2 if ratio == 4 else 1), compressed.state_page_bytes(alike) / keys
            number = sum(many for cache, many in layers.items() if cache.ratio == ratio)
            found += [CacheGroup(number, block, kept, page_share=share)] * -(-number // size)
    block_bytes = sum(page * many for page, many in places.items())
    return CacheLayout(block_bytes, tuple(found), rules, shape.batched_tokens)


def _group(kind: _Kind, layers: int, shape: CacheShape) -> CacheGroup:
    """States: one of a request, two where they are kept at the end of a block, and one more for each drafted token."""
    if not kind.is_state:
        return CacheGroup(layers, kind.block_size, kind.window, context_parallel=shape.context_parallel)
    states = 1 if kind.each_block or not shape.caches_prefixes else 2
    drafted = shape.draft_tokens - (1 if kind.each_block else 0)
    return CacheGroup(layers, kind.block_size, states=states + drafted, each_block=kind.each_block)


def _kinds(layers: Sequence[Layer], shape: CacheShape, rules: CacheRules) -> dict[_Kind, int]:
    """The different cache specifications and how many layers have each."""
    different = dict(zip(map(id, layers), layers, strict=True))  # equal layers are one object
    counts = Counter(map(id, layers))
    caches = [
        (layer.cache if rules.latents else _whole_heads(layer.cache, shape), counts[key])
        for key, layer in different.items()
        if layer.cache is not None and not isinstance(layer.cache, CompressedCache)
    ]
    block_size = _raised_block([cache for cache, _ in caches], shape, rules)
    kinds: dict[_Kind, int] = {}
    for cache, count in caches:
        if isinstance(cache, StateCache):
            each_block = shape.keeps_each_block(cache, rules)
            kind = _Kind(shape.state_bytes(cache), block_size, None, True, each_block)
        else:
            page = block_size * token_bytes(cache, shape.tensor_parallel, shape.dtype_bytes)
            kind = _Kind(page, block_size, cache.window if rules.hybrid else None, False)
        kinds[kind] = kinds.get(kind, 0) + count
    return kinds


def _is_one_type(kinds: dict[_Kind, int]) -> bool:
    """Whether all layers need equally many tokens, as those of a model and its draft: they share a group, whatever
    their pages (kv_cache_interface.py: UniformTypeKVCacheSpecs, from 0.11.0)."""
    return bool(kinds) and all(kind.window is None and not kind.is_state for kind in kinds)


def _whole_heads(cache: AttentionCache | StateCache, shape: CacheShape) -> AttentionCache | StateCache:
    """The cache of a release that knows no latents."""
    if isinstance(cache, AttentionCache) and cache.latent:
        return AttentionCache(shape.attention_heads, WHOLE_HEAD, WHOLE_HEAD)
    return cache


def _raised_block(caches: Sequence[AttentionCache | StateCache], shape: CacheShape, rules: CacheRules) -> int:
    """The attention block, raised until its page holds a state (platforms/interface.py: _align_hybrid_block_size): to
    whole chunks of Mamba's kernels where each block has a state, to 128 beside latents."""
    states = [cache for cache in caches if isinstance(cache, StateCache)]
    attentions = [cache for cache in caches if isinstance(cache, AttentionCache)]
    if not states or not attentions:
        return shape.block_size
    state = max(shape.state_bytes(cache) for cache in states)
    token = max(token_bytes(cache, shape.tensor_parallel, shape.dtype_bytes) for cache in attentions)
    multiple = max(ATTENTION_BLOCK_MULTIPLE, shape.block_size)
    if rules.latents and any(cache.latent for cache in attentions):
        multiple = max(multiple, LATENT_BLOCK_MULTIPLE)
    chunks = {cache.chunk for cache in states if shape.keeps_each_block(cache, rules)}
    multiple = lcm(multiple, *chunks)
    return max(shape.block_size, round_up(-(-state // token), multiple))


def _same_pages(kinds: dict[_Kind, int]) -> dict[_Kind, int]:
    """Equal pages: states are padded, smaller attention pages take more tokens (unify_kv_cache_spec_page_size)."""
    largest = max((kind.page_bytes for kind in kinds), default=0)
    unified: dict[_Kind, int] = {}
    for kind, count in kinds.items():
        factor = 1 if kind.is_state else largest // kind.page_bytes
        grown = replace(kind, page_bytes=largest, block_size=kind.block_size * factor)
        unified[grown] = unified.get(grown, 0) + count
    return unified
