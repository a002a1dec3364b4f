"""What vLLM makes of plain weights while it loads them, by the names that `--quantization` takes."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_orch.errors import Problem
from nexus_orch.plan.model.formats import (
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
    MXFP4,
    MXFP8,
    NF4,
    NVFP4,
    Format,
    Scheme,
)
from nexus_orch.releases.fact import Fact
from nexus_orch.releases.models import converts_to_mxfp4

_ROUNDED = Format(8, 128, scale_bytes=2)
"""RTN rounds to 8 bits in groups of 128 unless RTN_NUM_BITS says 4 (quantization/rtn.py, 0.9 to 0.14)."""

ONLINE: Mapping[str, Scheme] = {
    "fp8": Scheme("fp8", FP8_TENSOR),
    "fp8_per_tensor": Scheme("fp8", FP8_TENSOR),
    "fp8_per_block": Scheme("fp8", FP8_BLOCK),
    "fp8_per_channel": Scheme("fp8", FP8_CHANNEL),
    "ptpc_fp8": Scheme("fp8", FP8_CHANNEL),
    "mxfp8": Scheme("mxfp8", MXFP8),
    "mxfp4": Scheme("mxfp4_online", MXFP4),
    "bitsandbytes": Scheme("bitsandbytes", NF4),
    "experts_int8": Scheme("experts_int8", FP8_CHANNEL, experts_only=True),
    "int8_per_channel_weight_only": Scheme("experts_int8", FP8_CHANNEL, experts_only=True),
    "nvfp4_per_token": Scheme("nvfp4_online", NVFP4, experts_only=True),
    "rtn": Scheme("rtn", _ROUNDED),
}
"""The names of all releases (vllm/config/quantization.py, _ONLINE_SHORTHANDS, and the methods of their own before it).
Which release has which name is said by its `--quantization` option."""

_FIRST: Mapping[str, Fact] = {"mxfp4": converts_to_mxfp4}
"""A name that was there before for checkpoints alone."""


def online_scheme(name: str, version: str | None) -> Scheme | Problem:
    """The weights of a plain checkpoint under `--quantization NAME` on this release."""
    method = name.lower()
    first = _FIRST.get(method)
    scheme = ONLINE.get(method)
    if scheme is not None and (first is None or version is None or first(version)):
        return scheme
    since = f" ({first.span} convert one with it)" if first is not None else ""
    return Problem(
        f'quantization "{name}" cannot be planned: the checkpoint is not quantized, and what converts one while it is '
        f"loaded is {', '.join(sorted(set(ONLINE) - {method}))}{since}",
        key="model.quantization",
        value=name,
        remedy="leave model.quantization unset, choose one of these, or a checkpoint in that format",
        cause="unsupported_quantization",
    )
