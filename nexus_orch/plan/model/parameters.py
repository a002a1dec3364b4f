"""How many parameters an architecture has."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.plan.model.architecture import Architecture


@dataclass(frozen=True)
class ParameterCounts:
    """Elements. `active` is what one token uses; `linear` is what quantization methods convert."""

    total: int
    active: int
    embedding: int
    vision: int
    linear: int
    layers: tuple[int, ...]


def count_parameters(architecture: Architecture) -> ParameterCounts:
    """The parameters that vLLM serves: without layers for multi-token prediction and without buffers."""
    layers = tuple(layer.elements for layer in architecture.layers)
    active_layers = sum(layer.active_elements * count for layer, count in architecture.distinct_layers)
    linear = sum(
        count * sum(parameter.elements for parameter in layer.parameters if parameter.linear)
        for layer, count in architecture.distinct_layers
    )
    embedding = sum(parameter.elements for parameter in architecture.embedding)
    vision = sum(parameter.elements for parameter in architecture.vision)
    rest = embedding + vision + sum(parameter.elements for parameter in architecture.head)
    return ParameterCounts(sum(layers) + rest, active_layers + rest, embedding, vision, linear, layers)
