"""How many bytes a quantized tensor takes once vLLM has loaded it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nexus_orch.errors import Problem
from nexus_orch.plan.model.architecture import Parameter, round_up

DTYPE_BYTES: Mapping[str, int] = {
    "bfloat16": 2,
    "float16": 2,
    "half": 2,
    "float32": 4,
    "float": 4,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
}
"""Bytes of one element, by vLLM's names."""

MXFP4_GROUP = 32
MXFP4_WIDTH_MULTIPLE = 256
"""Expert widths are padded to this when MXFP4 weights are loaded (quantization/mxfp4.py rounds up by backend):
GPT-OSS's 2880 becomes 3072, +0.65 GiB for the 20B model on an H100. On A100 the 120B model's 17.22 GiB on each of four
ranks are explained by the hidden size being padded as well."""


@dataclass(frozen=True)
class Scheme:
    """A weight format. `bits` is the width of a weight; scales stand per `group` of inputs, `block`, or tensor."""

    method: str | None = None
    bits: float = 16
    group: int | None = None
    block: tuple[int, int] | None = None
    scale_bytes: int = 4
    zero_points: bool = False
    group_index: bool = False
    """GPTQ keeps the group of each input (g_idx, int32)."""
    experts_only: bool = False
    pads_hidden: bool = False
    """MXFP4 through Marlin (before Hopper) pads the hidden size of the experts too."""
    skipped: tuple[str, ...] = ()
    """Modules that stay unquantized, by vLLM's `modules_to_not_convert` (names or patterns)."""

    def converts(self, parameter: Parameter) -> bool:
        if self.method == "gguf" and parameter.split == "vocabulary":
            return True
        if self.method is None or not parameter.linear:
            return False
        if self.experts_only:
            return parameter.copies > 1
        return not any(_matches(pattern, parameter.name) for pattern in self.skipped)

    def stored_name(self, parameter: Parameter) -> str:
        """The name under which vLLM registers this parameter's weights (create_weights of each method)."""
        suffix = {"awq": "qweight", "gptq": "qweight", "gguf": "qweight"}.get(self.method or "")
        if self.method == "compressed-tensors" and self.bits < 8:
            suffix = "weight_packed"
        head, separator, _ = parameter.name.rpartition("weight")
        return f"{head}{suffix}" if suffix and separator and self.converts(parameter) else parameter.name

    def tensor_bytes(self, parameter: Parameter, tensor_parallel: int, dtype_bytes: int) -> int:
        """Bytes of this parameter, scales included, on the largest rank."""
        rows, columns = parameter.shape_on_rank(tensor_parallel)
        if not self.converts(parameter):
            return parameter.copies * rows * columns * dtype_bytes
        if self.method == "mxfp4":
            rows, columns = self._padded_experts(parameter, rows, columns)
        return parameter.copies * self._matrix_bytes(rows, columns)

    def _padded_experts(self, parameter: Parameter, rows: int, columns: int) -> tuple[int, int]:
        """Rows of w13 hold two widths, columns of w2 one; the other side is the hidden size."""
        multiple = MXFP4_WIDTH_MULTIPLE
        hidden = multiple if self.pads_hidden else 1
        if parameter.split == "rows":
            return 2 * round_up(rows // 2, multiple), round_up(columns, hidden)
        return round_up(rows, hidden), round_up(columns, multiple)

    def _matrix_bytes(self, rows: int, columns: int) -> int:
        total = int(rows * columns * self.bits / 8)
        if self.block is not None:
            total += -(-rows // self.block[0]) * -(-columns // self.block[1]) * self.scale_bytes
        elif self.group is not None:
            groups = rows * -(-columns // self.group)
            total += groups * self.scale_bytes + (int(groups * self.bits / 8) if self.zero_points else 0)
        else:
            total += self.scale_bytes
        return total + (4 * columns if self.group_index else 0)


UNQUANTIZED = Scheme()


def choose_scheme(
    config: Mapping[str, Any], pinned: str | None = None, compute_capability: tuple[int, int] | None = None
) -> Scheme | Problem:
    """The weight format of a checkpoint, or of a plain one that is quantized while loading (fp8, bitsandbytes).

    Returns a Problem when the method is unknown, or the pinned one is not the checkpoint's.
    """
    found = _quantization_config(config)
    method = None if found is None else found.get("quant_method")
    if found is not None and not isinstance(method, str):
        return _unsupported(str(method), "its quantization_config names no quant_method")
    method = None if method is None else method.lower()
    if pinned is not None and found is None:
        online = {"fp8": Scheme("fp8", 8), "bitsandbytes": _bitsandbytes({})}.get(pinned.lower())
        return online or _unsupported(
            pinned, "the checkpoint is not quantized, and only fp8 and bitsandbytes convert one"
        )
    if found is None or method is None:
        return UNQUANTIZED
    scheme = _from_config(method, found)
    if scheme is not None and compute_capability is not None and compute_capability < (9, 0):
        scheme = replace(scheme, pads_hidden=True)
    if scheme is None:
        return _unsupported(method, "the planner does not know how large its weights are")
    if pinned is not None and not _same_family(pinned.lower(), method):
        return _unsupported(pinned, f"the checkpoint is quantized with {method}")
    return scheme


def _quantization_config(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    nested = config.get("text_config")
    for holder in (config, nested if isinstance(nested, Mapping) else {}):
        for key in ("quantization_config", "compression_config"):
            found = holder.get(key)
            if isinstance(found, Mapping) and found:
                return found
    return None


def _from_config(method: str, config: Mapping[str, Any]) -> Scheme | None:
    skipped = tuple(str(name) for name in (config.get("modules_to_not_convert") or config.get("ignore") or ()) if name)
    bits, group = _number(config, "bits", 4), _number(config, "group_size", 128)
    per_group = group if group > 0 else None
    known = {
        "fp8": Scheme("fp8", 8, block=_block(config), skipped=skipped),
        "awq": Scheme("awq", bits, per_group, scale_bytes=2, zero_points=True, skipped=skipped),
        "gptq": Scheme("gptq", bits, per_group, scale_bytes=2, zero_points=True, group_index=True, skipped=skipped),
        "mxfp4": Scheme("mxfp4", 4, MXFP4_GROUP, scale_bytes=1, experts_only=True),
        "bitsandbytes": _bitsandbytes(config),
        "compressed-tensors": _compressed_tensors(config, skipped),
    }
    return known.get(method.removesuffix("_marlin"))


def _bitsandbytes(config: Mapping[str, Any]) -> Scheme:
    """NF4 with one float32 scale for 64 weights (what vLLM holds, even of double-quantized checkpoints), or int8."""
    if config.get("load_in_8bit"):
        return Scheme("bitsandbytes", 8, 1 << 40)
    return Scheme("bitsandbytes", 4, 64)


def _compressed_tensors(config: Mapping[str, Any], skipped: tuple[str, ...]) -> Scheme | None:
    groups = config.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return None
    bits, strategy = _number(weights, "num_bits", 8), str(weights.get("strategy", "channel"))
    if strategy == "group":
        zero_points = weights.get("symmetric") is False
        size = _number(weights, "group_size", 128)
        return Scheme("compressed-tensors", bits, size, scale_bytes=2, zero_points=zero_points, skipped=skipped)
    if strategy == "block":
        return Scheme("compressed-tensors", bits, block=_block(weights, "block_structure"), skipped=skipped)
    # One scale for each output: a group as wide as any matrix.
    per_channel = None if strategy == "tensor" else 1 << 40
    return Scheme("compressed-tensors", bits, per_channel, skipped=skipped)


def _block(config: Mapping[str, Any], key: str = "weight_block_size") -> tuple[int, int] | None:
    block = config.get(key)
    if isinstance(block, list | tuple) and len(block) == 2 and all(isinstance(v, int) and v > 0 for v in block):
        return int(block[0]), int(block[1])
    return None


def _number(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value != 0 else default


def _matches(pattern: str, name: str) -> bool:
    """Whether a name of a checkpoint's module list means this fused parameter.

    Lists of single layers (`model.layers.3.mlp.gate`) name modules that every layer leaves unquantized; the parts of a
    fused projection are always listed together, so that any of them stands for the whole.
    """
    bare = pattern.removeprefix("re:").split("layers.")[-1].split(".", 1)[-1] if "layers." in pattern else pattern
    aliases = (name, name.replace("qkv_proj", "q_proj"), name.replace("gate_up_proj", "gate_proj"))
    return bool(bare) and any(bare in alias.split(".") or fnmatch.fnmatch(alias, f"{bare}.*") for alias in aliases)


def _same_family(pinned: str, method: str) -> bool:
    return pinned.removesuffix("_marlin") == method.removesuffix("_marlin")


def _unsupported(method: str, why: str) -> Problem:
    return Problem(
        f'quantization "{method}" cannot be planned: {why}',
        key="model.quantization",
        value=method,
        remedy="leave model.quantization unset, or choose a checkpoint in another format",
        cause="unsupported_quantization",
    )
