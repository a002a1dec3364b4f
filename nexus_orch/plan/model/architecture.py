"""Architecture: a model as the tensors that vLLM allocates and the cache that each layer keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Split = Literal["none", "rows", "columns", "vocabulary"]
"""How tensor parallelism divides a tensor: not at all, by its outputs, by its inputs, by padded vocabulary rows."""

VOCABULARY_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this (layers/vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE)."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Parameter:
    """One tensor, by vLLM's fused name (`self_attn.qkv_proj`), or `copies` of it stacked (the experts of a layer).

    It has `rows` outputs and `columns` inputs (a vector has one column). A fused QKV projection has `kv_heads` more
    groups of `kv_head_rows` outputs, divided by whole heads and repeated when there are more ranks than heads.
    """

    name: str
    rows: int
    columns: int = 1
    split: Split = "none"
    copies: int = 1
    active_copies: int | None = None
    """How many of the copies one token uses; None for all of them."""
    kv_heads: int = 0
    kv_head_rows: int = 0
    linear: bool = False
    """A matrix that quantization methods convert (norms, embeddings, routers and the head are not)."""

    @property
    def elements(self) -> int:
        return self.copies * (self.rows + self.kv_heads * self.kv_head_rows) * self.columns

    @property
    def active_elements(self) -> int:
        if self.active_copies is None:
            return self.elements
        return self.elements // self.copies * min(self.active_copies, self.copies)

    def shape_on_rank(self, tensor_parallel: int) -> tuple[int, int]:
        """Rows and columns of one copy on the largest rank."""
        if self.split == "rows":
            kv_rows = -(-self.kv_heads // tensor_parallel) * self.kv_head_rows
            return -(-self.rows // tensor_parallel) + kv_rows, self.columns
        if self.split == "columns":
            return self.rows, -(-self.columns // tensor_parallel)
        if self.split == "vocabulary":
            return round_up(self.rows, VOCABULARY_PADDING * tensor_parallel) // tensor_parallel, self.columns
        return self.rows + self.kv_heads * self.kv_head_rows, self.columns


@dataclass(frozen=True)
class AttentionCache:
    """What an attention layer keeps for each token. MLA keeps one latent vector for all heads, on every rank."""

    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    """Sliding window or attention chunk, in tokens."""
    latent: bool = False
    index_bytes: int = 0
    """Bytes for each token that a sparse-attention indexer keeps beside the layer's own."""


@dataclass(frozen=True)
class StateCache:
    """What a Mamba or linear-attention layer keeps for each sequence, whatever its length, in elements."""

    conv_elements: int
    ssm_elements: int
    ssm_float32: bool = False
    conv_width: int = 0
    """Elements that the convolution keeps for each token that is drafted."""
    chunk: int = 0
    """Tokens that the layer's kernels take at once; 0 where a state is never kept for each block of them."""


@dataclass(frozen=True)
class CompressedCache:
    """What a layer of DeepSeek V4 keeps: a window of keys, and one key for `ratio` tokens where that is above 1."""

    ratio: int
    head_dim: int
    window: int
    index_dim: int = 0
    """Elements of a key that the layer's indexer keeps for `ratio` tokens."""


LayerCache = AttentionCache | StateCache | CompressedCache


@dataclass(frozen=True)
class Layer:
    """One decoder layer. `mlp_width` and `expert_width` are intermediate sizes, 0 where there is none."""

    parameters: tuple[Parameter, ...]
    cache: LayerCache | None
    mlp_width: int = 0
    expert_width: int = 0
    experts_per_token: int = 0

    @cached_property
    def elements(self) -> int:
        return sum(parameter.elements for parameter in self.parameters)

    @cached_property
    def active_elements(self) -> int:
        return sum(parameter.active_elements for parameter in self.parameters)


@dataclass(frozen=True)
class Architecture:
    """A model. `layers` repeats the same `Layer` object wherever layers are equal.

    `embedding` lies on the first pipeline rank, `head` (final norm and output matrix; no matrix when tied) on the last,
    `vision` (tower and projector) on the first.
    """

    name: str
    model_type: str
    hidden_size: int
    vocabulary: int
    max_positions: int
    longest_context: int
    """The longest max_model_len that vLLM accepts: `max_positions`, or more where rope scaling extends them."""
    attention_heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    tied_embeddings: bool
    checkpoint_dtype: str | None
    layers: tuple[Layer, ...]
    embedding: tuple[Parameter, ...]
    head: tuple[Parameter, ...]
    vision: tuple[Parameter, ...] = ()
    image_token_bytes: int = 0
    """Bytes of the vision tower's two widest tensors for one token that the model sees of an image: a token stands for
    several patches."""
    largest_image_tokens: int = 0
    """Tokens of the largest image that the model takes by itself; 0 where a batch holds several images."""
    embeds_apart: bool = False
    """The embedding is no part of what is compiled: the model can take pictures."""
    notes: tuple[str, ...] = ()
    is_guess: bool = False
    """No family describes the model: its layers are concluded from usual keys, or from a checkpoint's tensors."""
    is_stored: bool = False
    """Made of a checkpoint's tensors as they are stored (`nexus_orch.plan.model.tensors`)."""

    @cached_property
    def distinct_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Each different layer with the number of times that it occurs, in order of first use."""
        counts: dict[int, int] = {}
        first: dict[int, Layer] = {}
        for layer in self.layers:
            first.setdefault(id(layer), layer)
            counts[id(layer)] = counts.get(id(layer), 0) + 1
        return tuple((first[key], count) for key, count in counts.items())

    @cached_property
    def active_elements(self) -> int:
        """What one token uses of all layers."""
        return sum(layer.active_elements * count for layer, count in self.distinct_layers)

    @cached_property
    def expert_share(self) -> float:
        """The share of a layer's routed experts that one token uses; 1 for a dense model."""
        shares = [
            parameter.active_copies / parameter.copies
            for layer, _ in self.distinct_layers
            for parameter in layer.parameters
            if parameter.active_copies is not None
        ]
        return max(shares, default=1.0)

    @property
    def is_moe(self) -> bool:
        return any(layer.experts_per_token for layer, _ in self.distinct_layers)

    @property
    def is_hybrid(self) -> bool:
        """Some layers keep a state instead of keys and values."""
        return any(isinstance(layer.cache, StateCache) for layer, _ in self.distinct_layers)

    @property
    def is_mla(self) -> bool:
        return any(_is_latent(layer.cache) for layer, _ in self.distinct_layers)


def _is_latent(cache: LayerCache | None) -> bool:
    return isinstance(cache, CompressedCache) or (isinstance(cache, AttentionCache) and cache.latent)
