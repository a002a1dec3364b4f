"""Which weights lie on which rank, and how much device memory they take there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from nexus_orch.plan.model.architecture import Architecture, Layer, Parameter
from nexus_orch.plan.model.formats import Format, Scheme
from nexus_orch.types import MIB

ALLOCATION_UNIT = 512
SMALL_ALLOCATION = 1 * MIB
SEGMENT_ALLOCATION = 10 * MIB
SEGMENT_UNIT = 2 * MIB
"""PyTorch's caching allocator (c10/cuda/CUDACachingAllocator.cpp): sizes are multiples of 512 B; from 10 MiB on, memory
is taken in multiples of 2 MiB and a remainder of at most 1 MiB stays with the tensor, where it counts as allocated."""


@dataclass(frozen=True)
class RankWeights:
    """The weights of one pipeline stage on its largest rank, in bytes as PyTorch counts them.

    `parameter_bytes` are the plain sizes of each layer's parameters, in vLLM's order: the grain of offloading.
    """

    layer_bytes: tuple[int, ...]
    fixed_bytes: int
    parameter_bytes: tuple[tuple[int, ...], ...]
    active_fixed_bytes: int
    parameter_names: tuple[tuple[str, ...], ...]
    active_parameter_bytes: tuple[tuple[int, ...], ...]
    """Bytes that one token reads of each parameter: of experts only the chosen ones."""
    tower_bytes: tuple[int, ...] = ()
    """The parameters of the vision tower on this stage."""
    compiled_embedding_bytes: int = 0
    """The embedding, where it is part of the compiled model: beside a vision tower it is not, nor after the first
    stage."""

    @cached_property
    def total_bytes(self) -> int:
        return self.fixed_bytes + self.layers_bytes

    @cached_property
    def layers_bytes(self) -> int:
        """Bytes of all layers as PyTorch counts them."""
        return sum(self.layer_bytes)

    @cached_property
    def plain_bytes(self) -> int:
        """The parameters of all layers, without what the allocator adds."""
        return sum(map(sum, self.parameter_bytes))

    @cached_property
    def active_bytes(self) -> int:
        """Bytes that one token reads of all layers."""
        return sum(self.active_layer_bytes)

    @cached_property
    def active_layer_bytes(self) -> tuple[int, ...]:
        """Bytes that one token reads of each layer."""
        return tuple(map(sum, self.active_parameter_bytes))


@dataclass(frozen=True)
class _LayerWeights:
    """One layer on a rank: what the allocator counts, and for each parameter its name, size and active part."""

    allocated_bytes: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    active: tuple[int, ...]


def allocated_bytes(size: int, *, whole_segments: bool, expandable: bool = False) -> int:
    """Bytes that PyTorch counts for a tensor of `size` bytes.

    `expandable`: segments that grow are split exactly; Qwen2.5-14B offloaded on an H200 (vLLM 0.33.0) printed the plain
    sum.

    `whole_segments`: torch 2.11 and later (vLLM 0.20) do not split the last 2 MiB of a large tensor; seen with
    Qwen2.5-7B on an H100, where 42 MiB more than with torch 2.8 are counted, 1.5 MiB for each o_proj.
    """
    rounded = -(-size // ALLOCATION_UNIT) * ALLOCATION_UNIT
    if rounded < SEGMENT_ALLOCATION or expandable:
        return rounded
    segment = -(-rounded // SEGMENT_UNIT) * SEGMENT_UNIT
    return segment if whole_segments or segment - rounded <= SMALL_ALLOCATION else rounded


def stage_sizes(layers: int, pipeline_parallel: int, *, rest_last: bool = False) -> tuple[int, ...]:
    """Layers on each pipeline stage (vLLM: distributed/utils.py, get_pp_indices): what does not divide goes to the
    stages before the last one, from the back; with `rest_last` (0.5.5 to 0.7.3) all of it to the last one."""
    base, rest = divmod(layers, pipeline_parallel)
    sizes = [base] * pipeline_parallel
    if rest_last:
        return (*sizes[:-1], base + rest)
    for index in range(2, rest + 2):
        sizes[-index] += 1
    return tuple(sizes)


@dataclass(frozen=True)
class WeightLayout:
    """How the weights of a run are divided and stored."""

    architecture: Architecture
    scheme: Scheme
    dtype_bytes: int
    tensor_parallel: int
    pipeline_parallel: int
    whole_segments: bool
    layer_scale: float = 1.0
    """Bytes of the checkpoint's layers over the computed ones, where its tensor headers are known."""
    partition: tuple[int, ...] = ()
    """Layers on each pipeline stage; empty for equal ones."""
    expandable: bool = False
    """See `allocated_bytes`."""
    engines: int = 1
    """Engines side by side, which share the experts of each layer with all their tensor-parallel ranks
    (layers/fused_moe/config.py: flatten_tp_across_dp)."""
    whole_experts: bool = False
    """They share them expert by expert; else each has a part of every expert."""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Layers on each pipeline stage."""
        return self.partition or stage_sizes(len(self.architecture.layers), self.pipeline_parallel)

    @cached_property
    def stages(self) -> tuple[RankWeights, ...]:
        """The weights of each pipeline stage."""
        sizes = self.sizes
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return tuple(
            self._stage(index, start, size) for index, (start, size) in enumerate(zip(starts, sizes, strict=True))
        )

    def _stage(self, stage: int, start: int, size: int) -> RankWeights:
        layers = self.architecture.layers[start : start + size]
        rows = [self._known_layer(layer, start + offset) for offset, layer in enumerate(layers)]
        fixed = self._fixed(stage)
        head = sum(self._size(parameter) for parameter in self.architecture.head) if self._is_last(stage) else 0
        if head and self.architecture.tied_embeddings:
            head += self._embedding_bytes
        return RankWeights(
            layer_bytes=tuple(row.allocated_bytes for row in rows),
            fixed_bytes=sum(self._allocated(size) for size in fixed) + self._rotary_bytes(),
            parameter_bytes=tuple(row.sizes for row in rows),
            active_fixed_bytes=head,
            parameter_names=tuple(row.names for row in rows),
            active_parameter_bytes=tuple(row.active for row in rows),
            tower_bytes=tuple(self._size(parameter) for parameter in self.architecture.vision) if stage == 0 else (),
            compiled_embedding_bytes=0 if stage or self.architecture.embeds_apart else self._embedding_bytes,
        )

    @property
    def _embedding_bytes(self) -> int:
        """The table of the model itself, not those of positions or of single layers."""
        return self._size(self.architecture.embedding[0]) if self.architecture.embedding else 0

    def _is_last(self, stage: int) -> bool:
        return stage == self.pipeline_parallel - 1

    def _fixed(self, stage: int) -> list[int]:
        """Sizes of what lies outside the layers. A tied matrix is needed on the first and the last stage."""
        held: list[Parameter] = []
        if stage == 0:
            held += [*self.architecture.embedding, *self.architecture.vision]
        elif self._is_last(stage) and self.architecture.tied_embeddings:
            held += self.architecture.embedding
        if self._is_last(stage):
            held += self.architecture.head
        return [self._size(parameter) for parameter in held]

    def _rotary_bytes(self) -> int:
        """vLLM's cos/sin cache: one row for each position (layers/rotary_embedding)."""
        return self._allocated(self.architecture.max_positions * self.architecture.rotary_dim * self.dtype_bytes)

    def _known_layer(self, layer: Layer, index: int) -> _LayerWeights:
        """Layers of one build that are stored alike are computed once."""
        differ = layer.parameters if self.scheme.depends_on_layer else ()
        key = (id(layer), tuple(self.scheme.format_of(parameter, index) for parameter in differ))
        if key not in self._layers:
            self._layers[key] = self._layer(layer, index)
        return self._layers[key]

    @cached_property
    def _layers(self) -> dict[tuple[int, tuple[Format | None, ...]], _LayerWeights]:
        return {}

    def _layer(self, layer: Layer, index: int) -> _LayerWeights:
        pieces = tuple(
            tuple(int(piece * self.layer_scale) for piece in self._pieces(parameter, index))
            for parameter in layer.parameters
        )
        sizes = tuple(map(sum, pieces))
        return _LayerWeights(
            sum(self._allocated(piece) for kept in pieces for piece in kept),
            tuple(self.scheme.stored_name(parameter, index) for parameter in layer.parameters),
            sizes,
            tuple(
                size * parameter.active_elements // max(1, parameter.elements)
                for size, parameter in zip(sizes, layer.parameters, strict=True)
            ),
        )

    def _size(self, parameter: Parameter, layer: int | None = None) -> int:
        return sum(self._pieces(parameter, layer))

    def _pieces(self, parameter: Parameter, layer: int | None = None) -> tuple[int, ...]:
        ranks = self.tensor_parallel
        if parameter.active_copies is not None:
            ranks *= self.engines
            if self.whole_experts and ranks > 1:
                parameter, ranks = replace(parameter, copies=-(-parameter.copies // ranks)), 1
        return self.scheme.tensor_pieces(parameter, ranks, self.dtype_bytes, layer)

    def _allocated(self, size: int) -> int:
        return allocated_bytes(size, whole_segments=self.whole_segments, expandable=self.expandable)
