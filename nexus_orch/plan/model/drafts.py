"""The layers with which a checkpoint drafts its own next tokens (multi-token prediction)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.plan.model.architecture import Architecture, AttentionCache, Layer, Parameter
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.formats import Scheme

_COUNTS = ("mtp_num_hidden_layers", "num_nextn_predict_layers", "num_mtp_modules")
"""Where configurations say how many there are (config/speculative.py: hf_config_override, 0.33.0)."""
_PLAIN_DRAFTS = frozenset({"awq", "gptq", "auto-round", "bitsandbytes"})
"""Methods whose checkpoints leave these layers as they were: they are converted layer by layer by tools that do not
know them."""


def count_drafts(config: Mapping[str, Any]) -> int:
    """How many layers of its own a checkpoint can draft with."""
    nested = config.get("text_config")
    for holder in (nested if isinstance(nested, Mapping) else {}, config):
        for key in _COUNTS:
            found = holder.get(key)
            if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 100:
                return found
    return 0


def with_own_draft(architecture: Architecture, config: Mapping[str, Any], scheme: Scheme) -> Architecture:
    """The architecture with its draft loaded beside it, on the last stage: for each drafted depth a layer like the last
    one with attention, and a matrix that joins its two inputs (models/qwen3_5_mtp.py, deepseek_mtp.py). Embedding and
    output matrix are the model's own."""
    like = next((layer for layer in reversed(architecture.layers) if isinstance(layer.cache, AttentionCache)), None)
    if like is None:
        return architecture
    count, converts = count_drafts(config) or 1, scheme.method not in _PLAIN_DRAFTS
    parameters = tuple(
        parameter for index in range(count) for parameter in _parameters(architecture, like, index, converts)
    )
    return replace(architecture, head=(*architecture.head, *parameters), drafts=(*architecture.drafts, *[like] * count))


def _parameters(architecture: Architecture, like: Layer, index: int, converts: bool) -> Iterator[Parameter]:
    name, hidden = f"mtp.layers.{index}", architecture.hidden_size
    for parameter in like.parameters:
        yield replace(parameter, name=f"{name}.{parameter.name}", linear=parameter.linear and converts)
    yield Parameter(f"{name}.fc.weight", hidden, 2 * hidden, "rows")
    yield from blocks.norms(hidden, tuple(f"{name}.{norm}" for norm in ("enorm", "hnorm", "norm")))
