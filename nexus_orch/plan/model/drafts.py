"""The layers with which a checkpoint drafts its own next tokens (multi-token prediction)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.plan.model.architecture import Architecture, AttentionCache, CompressedCache, Parameter
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.formats import UNQUANTIZED, Scheme

_COUNTS = ("mtp_num_hidden_layers", "num_nextn_predict_layers", "num_mtp_modules")
"""Where configurations say how many there are (config/speculative.py: hf_config_override, 0.33.0)."""
_PLAIN_DRAFTS = frozenset({"awq", "gptq", "auto-round", "bitsandbytes"})
"""Methods whose checkpoints leave these layers as they were: they are converted layer by layer by tools that do not
know them."""
_OWN_HEAD = frozenset({"deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa"})
"""Models whose prediction layers have an output matrix in the checkpoint (models/deepseek_mtp.py: SharedHead)."""


def count_drafts(config: Mapping[str, Any]) -> int:
    """How many layers of its own a checkpoint can draft with."""
    nested = config.get("text_config")
    for holder in (nested if isinstance(nested, Mapping) else {}, config):
        for key in _COUNTS:
            found = holder.get(key)
            if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 100:
                return found
    return 0


def draft_scheme(scheme: Scheme) -> Scheme:
    """The weight format of these layers in a checkpoint of that format."""
    return UNQUANTIZED if scheme.method in _PLAIN_DRAFTS else scheme


def make_own_draft(architecture: Architecture, count: int, *, shares_head: bool) -> Architecture | None:
    """What is loaded beside the model where it drafts by itself: for each of `count` depths a layer like the last one
    with attention, and a matrix that joins its two inputs (models/qwen3_5_mtp.py, deepseek_mtp.py). The embedding is
    the model's own, and so is the output matrix with `shares_head`. None where no layer has attention."""
    kinds = (AttentionCache, CompressedCache)
    like = next((layer for layer in reversed(architecture.layers) if isinstance(layer.cache, kinds)), None)
    if like is None:
        return None
    if isinstance(like.cache, CompressedCache):  # its draft compresses nothing
        like = replace(like, cache=replace(like.cache, ratio=1, index_dim=0))
    owns_head = not shares_head and architecture.model_type in _OWN_HEAD
    beside = tuple(part for index in range(count) for part in _beside(architecture, index, owns_head=owns_head))
    return replace(architecture, layers=(like,) * count, embedding=(), head=beside, vision=(), rotary_dim=0)


def _beside(architecture: Architecture, index: int, *, owns_head: bool) -> Iterator[Parameter]:
    """What a depth has beside its layer: the joining matrix, norms, and perhaps an output matrix."""
    name, hidden = f"mtp.layers.{index}", architecture.hidden_size
    is_replicated = architecture.model_type in _OWN_HEAD  # a plain nn.Linear
    yield Parameter(f"{name}.fc.weight", hidden, 2 * hidden, "none" if is_replicated else "rows")
    yield from blocks.norms(hidden, tuple(f"{name}.{norm}" for norm in ("enorm", "hnorm", "norm")))
    if owns_head:
        yield Parameter(f"{name}.shared_head.head.weight", architecture.vocabulary, hidden, "vocabulary")
