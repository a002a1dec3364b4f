"""An architecture that no family describes, made of its checkpoint's tensor headers: weights exactly, doubts told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.model.architecture import Architecture, AttentionCache, Layer, Parameter, Split
from nexus_orch.plan.model.families import is_known, parse_architecture
from nexus_orch.types import ModelFacts, TensorHeader

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)$")
_EXPERT = re.compile(r"(?<=experts\.)\d+(?=\.)")
_VISION = re.compile(r"(?:^|\.)(?:visual|vision|vision_tower|vision_model|multi_modal_projector|mm_projector)\.")
_EMBEDDING = re.compile(r"(?:embed_tokens|wte|tok_embeddings|word_embeddings|embed_in|embeddings)\.weight$")
_HEAD = re.compile(r"(?:lm_head|embed_out|output)\.weight$")
_FLOATS = frozenset({"BF16", "F16", "F32"})
_STORED_BYTES = 2
"""Tensors of other types are entered as so many elements of two bytes as they take."""

_QUERIES, _KEYS, _VALUES = ("q_proj", "wq", "query"), ("k_proj", "wk", "key"), ("v_proj", "wv", "value")
_FUSED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv")
_LATENT = ("kv_a_proj_with_mqa", "kv_a_proj")
_UP = ("gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "fc1", "c_fc", "fc_in", "dense_h_to_4h")
_DOWN = ("down_proj", "w2", "fc2", "c_proj", "fc_out", "dense_4h_to_h")
_BY_OUTPUTS = frozenset((*_QUERIES, *_KEYS, *_VALUES, *_FUSED, *_UP, "in_proj", "q_b_proj", "kv_b_proj"))
_BY_INPUTS = frozenset((*_DOWN, "o_proj", "out_proj", "wo", "dense"))
"""How tensor parallelism usually divides a layer's matrices, by the last part of the module's name."""

_HEAD_FIELDS = ("num_attention_heads", "n_head", "num_heads")
_KV_HEAD_FIELDS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
_POSITION_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
_EXPERT_FIELDS = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k")


def choose_architecture(model: ModelFacts) -> Architecture:
    """The architecture of a known family, else what the checkpoint's tensors tell (`is_guess`).

    Raises ConfigError with everything that is missing when neither is possible.
    """
    tensors = model.checkpoint.tensors if model.checkpoint is not None else ()
    if is_known(model.config) or not tensors:
        return parse_architecture(model.config)
    return _Checkpoint(model.config, tensors).architecture()


@dataclass(frozen=True)
class _Checkpoint:
    """The tensors of a model, and its config.json as far as it can be used."""

    config: Mapping[str, Any]
    tensors: Sequence[TensorHeader]

    def architecture(self) -> Architecture:
        missing = list(self._missing())
        if missing:
            raise ConfigError(self._problem(missing))
        embedding = self._embedding
        assert embedding is not None
        vocabulary, hidden = embedding.shape
        layers = self._layers
        positions = self._number(*_POSITION_FIELDS) or 2048
        return Architecture(
            name=self._model_type,
            model_type=self._model_type,
            hidden_size=hidden,
            vocabulary=vocabulary,
            max_positions=positions,
            longest_context=positions,
            attention_heads=self._heads or 1,
            kv_heads=max(
                (layer.cache.kv_heads for layer in layers if isinstance(layer.cache, AttentionCache)), default=1
            ),
            head_dim=self._head_dim or 1,
            rotary_dim=self._head_dim or 1,
            tied_embeddings=not any(_HEAD.search(tensor.name) for tensor in self.tensors),
            checkpoint_dtype="float16" if embedding.dtype == "F16" else None,
            layers=layers,
            embedding=(Parameter("embed_tokens.weight", vocabulary, hidden, "vocabulary"),),
            head=tuple(self._outside(vision=False)),
            vision=tuple(self._outside(vision=True)),
            notes=tuple(self._notes(layers, positions)),
            is_guess=True,
            is_stored=True,
        )

    def _missing(self) -> Iterator[str]:
        if self._embedding is None:
            yield "an embedding matrix among its tensors"
        if not self._by_layer:
            yield "numbered layers among its tensors"
        elif self._heads is None:
            yield f"{_HEAD_FIELDS[0]} in config.json"
        elif not any(layer.cache is not None for layer in self._layers):
            yield "projections of keys and values that can be recognized"

    def _problem(self, missing: Sequence[str]) -> Problem:
        return Problem(
            f'the planner does not know the model type "{self._model_type}", and its checkpoint does not tell enough: '
            f"it lacks {', '.join(missing)}",
            key="model.config.model_type",
            value=self._model_type,
            remedy="if it is built like a known type, set that model_type under model.config",
            cause="unsupported_architecture",
        )

    def _notes(self, layers: Sequence[Layer], positions: int) -> Iterator[str]:
        yield (
            f'the planner does not know the model type "{self._model_type}": weights are those of the checkpoint\'s '
            "tensors, the KV cache follows from their shapes, activations are assumed; whether this vLLM can run it is "
            "not known"
        )
        without = sum(1 for layer in layers if layer.cache is None)
        if without:
            yield f"{without} of {len(layers)} layers have a state whose size the tensors do not tell: not counted"
        if self._number(*_POSITION_FIELDS) is None:
            yield f"config.json does not tell the longest context: {positions:,} is assumed"

    @cached_property
    def _model_type(self) -> str:
        return str(self.config.get("model_type") or "none")

    def _number(self, *names: str) -> int | None:
        """The first of these fields that is a positive whole number, in config.json or its text_config."""
        nested = self.config.get("text_config")
        for holder in (self.config, nested if isinstance(nested, Mapping) else {}):
            for name in names:
                value = holder.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
                    return value
        return None

    @cached_property
    def _embedding(self) -> TensorHeader | None:
        found = (t for t in self.tensors if _EMBEDDING.search(t.name) and not _LAYER.search(t.name))
        return next((t for t in found if len(t.shape) == 2 and not _VISION.search(t.name)), None)

    @cached_property
    def _by_layer(self) -> tuple[tuple[TensorHeader, ...], ...]:
        """The tensors of each decoder layer; layers beyond the config's number are multi-token prediction."""
        found: dict[int, list[TensorHeader]] = {}
        for tensor in self.tensors:
            match = _LAYER.search(tensor.name)
            if match and not _VISION.search(tensor.name):
                rest = TensorHeader(match[2], tensor.dtype, tensor.shape, tensor.bytes)
                found.setdefault(int(match[1]), []).append(rest)
        count = self._number("num_hidden_layers", "n_layer", "num_layers") or len(found)
        return tuple(tuple(tensors) for index, tensors in sorted(found.items()) if index < count)

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        """Equal layers are the same object."""
        built: dict[frozenset[TensorHeader], Layer] = {}
        layers = []
        for tensors in self._by_layer:
            key = frozenset(tensors)
            if key not in built:
                built[key] = self._layer(tensors)
            layers.append(built[key])
        return tuple(layers)

    def _layer(self, tensors: Sequence[TensorHeader]) -> Layer:
        routed = any("experts." in tensor.name for tensor in tensors)
        per_token = (self._number(*_EXPERT_FIELDS) or 1) if routed else 0
        return Layer(
            parameters=tuple(_stacked(tensors, per_token or None)),
            cache=self._cache(tensors),
            mlp_width=max(
                (_inputs(t) for t in tensors if _module(t.name) in _DOWN and "experts." not in t.name), default=0
            ),
            expert_width=max(
                (_inputs(t) for t in tensors if _module(t.name) in _DOWN and "experts." in t.name), default=0
            ),
            experts_per_token=per_token,
        )

    def _cache(self, tensors: Sequence[TensorHeader]) -> AttentionCache | None:
        latent = _outputs(tensors, _LATENT)
        if latent is not None:
            return AttentionCache(1, latent, latent, latent=True)
        keys, values = self._key_outputs(tensors), _outputs(tensors, _VALUES)
        if keys is None:
            return None
        dim = self._head_dim or keys
        heads = keys // dim if keys % dim == 0 else 1
        return AttentionCache(heads, keys // heads, (values or keys) // heads)

    def _key_outputs(self, tensors: Sequence[TensorHeader]) -> int | None:
        """Outputs of the key projection; of a fused one what the queries leave; of a packed one from config.json."""
        keys = _outputs(tensors, _KEYS)
        if keys is not None:
            return keys
        attends = any(_module(tensor.name) in (*_KEYS, *_FUSED) for tensor in tensors)
        kv_heads = self._number(*_KV_HEAD_FIELDS) or self._heads
        if not attends or kv_heads is None or self._head_dim is None:
            return None
        return kv_heads * self._head_dim

    @cached_property
    def _heads(self) -> int | None:
        heads = self._number(*_HEAD_FIELDS)
        dim = self._number("head_dim")
        if heads is None and dim is not None and self._by_layer:
            queries = next((q for q in (_outputs(tensors, _QUERIES) for tensors in self._by_layer) if q), None)
            return None if queries is None else max(1, queries // dim)
        return heads

    @cached_property
    def _head_dim(self) -> int | None:
        """From config.json, from the width of the queries, else the hidden size over the heads."""
        dim, heads = self._number("head_dim"), self._number(*_HEAD_FIELDS)
        if dim is not None or heads is None or self._embedding is None:
            return dim
        queries = next((q for q in (_outputs(tensors, _QUERIES) for tensors in self._by_layer) if q), None)
        width = queries if queries is not None and queries % heads == 0 else self._embedding.shape[1]
        return max(1, width // heads)

    def _outside(self, *, vision: bool) -> Iterator[Parameter]:
        """What lies outside the decoder layers and is not the embedding."""
        for tensor in self.tensors:
            is_vision = bool(_VISION.search(tensor.name))
            if is_vision is not vision or tensor is self._embedding or (not is_vision and _LAYER.search(tensor.name)):
                continue
            split: Split = "vocabulary" if _HEAD.search(tensor.name) and len(tensor.shape) == 2 else "none"
            yield _parameter(tensor, split)


def _module(name: str) -> str:
    """The last part of a module's name: "k_proj" of "self_attn.k_proj.weight"."""
    parts = name.split(".")
    return parts[-2] if len(parts) > 1 else parts[-1]


def _inputs(tensor: TensorHeader) -> int:
    return tensor.shape[-1] if len(tensor.shape) > 1 and tensor.dtype in _FLOATS else 0


def _outputs(tensors: Iterable[TensorHeader], modules: Sequence[str]) -> int | None:
    """Outputs of the projection of that name: rows of a plain or 8-bit matrix, columns of a packed one's scales."""
    for tensor in tensors:
        if _module(tensor.name) in modules and len(tensor.shape) == 2:
            if tensor.name.endswith(".weight") and (tensor.dtype in _FLOATS or tensor.dtype.startswith("F8")):
                return tensor.shape[0]
            if tensor.name.endswith(".scales"):
                return tensor.shape[1]
    return None


def _stacked(tensors: Sequence[TensorHeader], per_token: int | None) -> Iterator[Parameter]:
    """The parameters of a layer; equal tensors of numbered experts become copies of one."""
    counts: dict[tuple[str, str, tuple[int, ...]], int] = {}
    first: dict[tuple[str, str, tuple[int, ...]], TensorHeader] = {}
    for tensor in tensors:
        key = (_EXPERT.sub("N", tensor.name), tensor.dtype, tensor.shape)
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, tensor)
    for key, tensor in first.items():
        module = _module(tensor.name)
        split: Split = "rows" if module in _BY_OUTPUTS else "columns" if module in _BY_INPUTS else "none"
        if split == "columns" and len(tensor.shape) == 1:
            split = "none"
        yield _parameter(tensor, split, counts[key], per_token if "experts." in tensor.name else None)


def _parameter(tensor: TensorHeader, split: Split, copies: int = 1, active: int | None = None) -> Parameter:
    """Rows and columns with which the tensor takes its bytes; the experts of one tensor are its first dimension."""
    shape = tensor.shape or (1,)
    if active is not None and len(shape) == 3:
        copies, shape = copies * shape[0], shape[1:]
    rows = max(1, shape[0])
    if tensor.dtype in _FLOATS:
        columns = prod(shape[1:])
    else:
        columns = max(1, -(-tensor.bytes // (_STORED_BYTES * rows * (tensor.shape[0] if shape != tensor.shape else 1))))
    return Parameter(tensor.name, rows, columns, split, copies, active)
