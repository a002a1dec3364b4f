"""vLLM's KV cache: pages, groups and blocks (vllm/v1/core/kv_cache_utils.py and kv_cache_interface.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexus_orch.plan.model.architecture import AttentionCache, Layer, LayerCache, StateCache, round_up

ATTENTION_BLOCK_MULTIPLE = 16
"""FlashAttention's block sizes are multiples of 16; a block raised to a Mamba state's size keeps to that."""


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
    tokens_by_concurrency: bool = True
    """How the log prints the tokens: concurrency times max_model_len (from 0.22), else blocks over groups."""


@dataclass(frozen=True)
class CacheGroup:
    """Layers that share one block table. `window` limits what a request holds; `is_state` is one block a request."""

    layers: int
    block_size: int
    window: int | None = None
    is_state: bool = False

    def blocks(self, tokens: int, batched_tokens: int) -> int:
        """Blocks that one request of `tokens` takes (kv_cache_interface.py: max_memory_usage_bytes)."""
        if self.is_state:
            return 1
        if self.window is None:
            return -(-tokens // self.block_size)
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
        return max(0, num_blocks) / blocks if blocks else 0.0

    def tokens(self, num_blocks: int, max_model_len: int) -> int:
        """The tokens that this release prints for `num_blocks` blocks."""
        if not self.groups:
            return 0
        if self.rules.tokens_by_concurrency:
            return int(self.concurrency(num_blocks, max_model_len) * max_model_len)
        return num_blocks // len(self.groups) * min(group.block_size for group in self.groups)

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


def token_bytes(cache: AttentionCache, tensor_parallel: int, dtype_bytes: int) -> int:
    """Bytes of one token in one layer on one rank. KV heads are repeated when there are more ranks than heads."""
    if cache.latent:
        return cache.key_dim * dtype_bytes + cache.index_bytes
    heads = max(1, -(-cache.kv_heads // tensor_parallel))
    return heads * (cache.key_dim + cache.value_dim) * dtype_bytes


def state_bytes(cache: StateCache, tensor_parallel: int, model_dtype_bytes: int) -> int:
    """Bytes of one sequence's state in one layer on one rank."""
    ssm = 4 if cache.ssm_float32 else model_dtype_bytes
    return (
        -(-cache.conv_elements // tensor_parallel) * model_dtype_bytes + -(-cache.ssm_elements // tensor_parallel) * ssm
    )


@dataclass(frozen=True)
class CacheShape:
    """The settings that decide the pages of a run beside the layers themselves."""

    tensor_parallel: int
    dtype_bytes: int
    model_dtype_bytes: int
    block_size: int
    batched_tokens: int
    attention_heads: int = 0
    """Heads of the model, which a release that knows no latents caches."""


WHOLE_HEAD = 256
"""Elements that a key and a value of latent attention are padded to where whole heads are cached."""


def make_layout(layers: Sequence[Layer], shape: CacheShape, rules: CacheRules) -> CacheLayout:
    """The cache layout of one pipeline stage."""
    kinds = _same_pages(_kinds(layers, shape, rules))
    if not kinds:
        return CacheLayout(0, (), rules, shape.batched_tokens)
    if len(kinds) == 1 or not rules.hybrid:
        total = sum(kind.page_bytes * count for kind, count in kinds.items())
        leading = min(kinds, key=lambda kind: kind.is_state)
        group = CacheGroup(sum(kinds.values()), leading.block_size, leading.window, leading.is_state)
        return CacheLayout(total, (group,), rules, shape.batched_tokens)
    least, most = min(kinds.values()), max(kinds.values())
    size = most if rules.even_groups and most < 1.5 * least else least
    split = tuple(
        CacheGroup(min(size, count), kind.block_size, kind.window, kind.is_state)
        for kind, count in kinds.items()
        for _ in range(-(-count // size))
    )
    page = max(kind.page_bytes for kind in kinds)
    return CacheLayout(page * size, split, rules, shape.batched_tokens)


def _kinds(layers: Sequence[Layer], shape: CacheShape, rules: CacheRules) -> dict[_Kind, int]:
    """The different cache specifications and how many layers have each."""
    different = dict(zip(map(id, layers), layers, strict=True))  # equal layers are one object
    counts = Counter(map(id, layers))
    caches = [
        (layer.cache if rules.latents else _whole_heads(layer.cache, shape), counts[key])
        for key, layer in different.items()
        if layer.cache is not None
    ]
    block_size = _raised_block([cache for cache, _ in caches], shape)
    kinds: dict[_Kind, int] = {}
    for cache, count in caches:
        if isinstance(cache, StateCache):
            kind = _Kind(state_bytes(cache, shape.tensor_parallel, shape.model_dtype_bytes), block_size, None, True)
        else:
            page = block_size * token_bytes(cache, shape.tensor_parallel, shape.dtype_bytes)
            kind = _Kind(page, block_size, cache.window if rules.hybrid else None, False)
        kinds[kind] = kinds.get(kind, 0) + count
    return kinds


def _whole_heads(cache: LayerCache, shape: CacheShape) -> LayerCache:
    """The cache of a release that knows no latents."""
    if isinstance(cache, AttentionCache) and cache.latent:
        return AttentionCache(shape.attention_heads, WHOLE_HEAD, WHOLE_HEAD)
    return cache


def _raised_block(caches: Sequence[AttentionCache | StateCache], shape: CacheShape) -> int:
    """The attention block, raised until its page holds a state (platforms: update_block_size_for_backend)."""
    states = [cache for cache in caches if isinstance(cache, StateCache)]
    attentions = [cache for cache in caches if isinstance(cache, AttentionCache)]
    if not states or not attentions:
        return shape.block_size
    state = max(state_bytes(cache, shape.tensor_parallel, shape.model_dtype_bytes) for cache in states)
    token = max(token_bytes(cache, shape.tensor_parallel, shape.dtype_bytes) for cache in attentions)
    return max(shape.block_size, round_up(-(-state // token), ATTENTION_BLOCK_MULTIPLE))


def _same_pages(kinds: dict[_Kind, int]) -> dict[_Kind, int]:
    """Equal pages: states are padded, smaller attention pages take more tokens (unify_kv_cache_spec_page_size)."""
    largest = max((kind.page_bytes for kind in kinds), default=0)
    unified: dict[_Kind, int] = {}
    for kind, count in kinds.items():
        factor = 1 if kind.is_state else largest // kind.page_bytes
        grown = replace(kind, page_bytes=largest, block_size=kind.block_size * factor)
        unified[grown] = unified.get(grown, 0) + count
    return unified
