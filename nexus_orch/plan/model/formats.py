"""How many bytes a quantized tensor takes once vLLM has loaded it: weight formats, and which modules have which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nexus_orch.plan.model.architecture import Parameter, round_up
from nexus_orch.plan.model.modules import Modules

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

WHOLE_ROW = 1 << 40
"""A group as wide as any matrix: one scale for each output."""

MXFP4_GROUP = 32
TRITON_PADDING = (256, 1)
MARLIN_PADDING = (128, 256)
FLASHINFER_PADDING = (256, 256)
"""What widths and hidden sizes of MXFP4 experts are padded to (quantization/mxfp4.py, later fused_moe/oracle/mxfp4.py:
mxfp4_round_up_hidden_size_and_intermediate_size; Triton's own layout on Hopper pads the width). GPT-OSS's width of 2880
becomes 3072, 2944 or 3072, and its hidden size 2880, 3072 or 3072. The 20B model took 13.47 GiB on an H100 (0.12.0) and
13.72 on an A100 (0.19.0), the 120B model 65.97 on an H100 (0.10.1) and 17.22 on each of four A100 (0.10.1.1)."""


@dataclass(frozen=True)
class Format:
    """The width of a weight in `bits`, with scales per `group` of inputs, per `block`, or one for the tensor."""

    bits: float = 16
    group: int | None = None
    block: tuple[int, int] | None = None
    scale_bytes: int = 4
    zero_points: bool = False
    group_index: bool = False
    """GPTQ keeps the group of each input (g_idx, int32)."""

    def pieces(self, rows: int, columns: int) -> tuple[int, ...]:
        """Bytes of the tensors that a matrix is kept in, each of which is allocated by itself: the packed weights, the
        scales, the zero points and the group of each input."""
        packed = int(rows * columns * self.bits / 8)
        index = (4 * columns,) if self.group_index else ()
        if self.block is not None:
            return packed, -(-rows // self.block[0]) * -(-columns // self.block[1]) * self.scale_bytes, *index
        if self.group is None:
            return packed, self.scale_bytes, *index
        groups = rows * -(-columns // self.group)
        zeros = (int(groups * self.bits / 8),) if self.zero_points else ()
        return packed, groups * self.scale_bytes, *zeros, *index


FP8_TENSOR = Format(8)
FP8_CHANNEL = Format(8, WHOLE_ROW)
FP8_BLOCK = Format(8, block=(128, 128))
NVFP4 = Format(4, 16, scale_bytes=1)
"""Half a byte for each weight and an FP8 scale for 16 of them (quantization/modelopt.py)."""
MXFP4 = Format(4, MXFP4_GROUP, scale_bytes=1)
MXFP8 = Format(8, MXFP4_GROUP, scale_bytes=1)
NF4 = Format(4, 64)
"""NF4 with one float32 scale for 64 weights: what vLLM holds, even of double-quantized checkpoints."""


@dataclass(frozen=True)
class ModuleFormat:
    """Modules that are stored in another format than the rest; None where they stay unquantized."""

    modules: Modules
    format: Format | None = None


@dataclass(frozen=True)
class Scheme:
    """The weights of a checkpoint: a method by vLLM's name, the format of its matrices, and rules for single modules.

    The first rule that names a module decides. `experts_only`: nothing but routed experts is converted.
    """

    method: str | None = None
    format: Format = Format()
    rules: tuple[ModuleFormat, ...] = ()
    experts_only: bool = False
    converts_head: bool = False
    """The output matrix is quantized, too."""
    padding: tuple[int, int] = TRITON_PADDING
    """What the width and the hidden size of MXFP4 experts are padded to."""
    notes: tuple[str, ...] = ()
    is_guess: bool = False
    """The configuration does not tell which layers have which width."""
    kv_cache_dtype: str | None = None
    """How keys and values are kept where nothing else is asked for, as the checkpoint says."""
    _known: dict[tuple[str, int | None], Format | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def bits(self) -> float:
        return self.format.bits

    @cached_property
    def depends_on_layer(self) -> bool:
        """Whether layers of the same build may be stored in different formats."""
        return any(rule.modules.depend_on_layer for rule in self.rules)

    def format_of(self, parameter: Parameter, layer: int | None = None) -> Format | None:
        """The format of this parameter in this layer; None where it is stored in the type of the model."""
        if self.method is None or not self._is_candidate(parameter):
            return None
        key = (parameter.name, layer if self.depends_on_layer else None)
        if key not in self._known:
            rules = (rule for rule in self.rules if rule.modules.names(parameter.name, layer))
            found = next(rules, None)
            self._known[key] = self.format if found is None else found.format
        return self._known[key]

    def _is_candidate(self, parameter: Parameter) -> bool:
        if parameter.split == "vocabulary":
            return self.method == "gguf" or (self.converts_head and parameter.name.startswith("lm_head"))
        return parameter.linear and (not self.experts_only or parameter.copies > 1)

    def stored_name(self, parameter: Parameter, layer: int | None = None) -> str:
        """The name under which vLLM registers this parameter's weights (create_weights of each method)."""
        stored = self.format_of(parameter, layer)
        if stored is None:
            return parameter.name
        suffix = "qweight" if self.method in _QWEIGHT else ""
        if self.method == "compressed-tensors" and stored.bits < 8:
            suffix = "weight_packed"
        head, separator, _ = parameter.name.rpartition("weight")
        return f"{head}{suffix}" if suffix and separator else parameter.name

    def tensor_bytes(
        self, parameter: Parameter, tensor_parallel: int, dtype_bytes: int, layer: int | None = None
    ) -> int:
        """Bytes of this parameter, scales included, on the largest rank."""
        return sum(self.tensor_pieces(parameter, tensor_parallel, dtype_bytes, layer))

    def tensor_pieces(
        self, parameter: Parameter, tensor_parallel: int, dtype_bytes: int, layer: int | None = None
    ) -> tuple[int, ...]:
        """Bytes of the tensors that this parameter is kept in on the largest rank: one, or with scales several."""
        rows, columns = parameter.shape_on_rank(tensor_parallel)
        stored = self.format_of(parameter, layer)
        if stored is None:
            return (parameter.copies * rows * columns * dtype_bytes,)
        if self.method == "mxfp4" and parameter.copies > 1:
            rows, columns = self._padded_experts(parameter, rows, columns)
        return tuple(parameter.copies * piece for piece in stored.pieces(rows, columns))

    def _padded_experts(self, parameter: Parameter, rows: int, columns: int) -> tuple[int, int]:
        """Rows of w13 hold two widths, columns of w2 one; the other side is the hidden size."""
        multiple, hidden = self.padding
        if parameter.split == "rows":
            return 2 * round_up(rows // 2, multiple), round_up(columns, hidden)
        return round_up(rows, hidden), round_up(columns, multiple)


_QWEIGHT = frozenset({"awq", "gptq", "gguf", "auto-round"})

UNQUANTIZED = Scheme()
