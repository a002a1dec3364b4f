"""How fast a card gets bytes from host RAM: copied ahead, or read in place by a product of so many tokens.

A product that reads its weights over the bus does so again for every tile of tokens, and which kernel is taken decides
how much of the bus it gets: of Qwen2.5-7B's layers an H200 reads 41 GB/s with 16 tokens, of 14B's 48 (bench/data/
hybrid_h200.json, `reads`). So the layers of a run are measured as they are (`nexus calibrate --bus`); without that,
constants of data/measured.json stand in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexus_orch.plan.asked.fixed import FixedSettings
from nexus_orch.plan.release.kept import measured
from nexus_orch.plan.release.weights import WeightLayout
from nexus_orch.types import COPY_RATE, LAYER_READS, READ_RATE, GpuFacts, LayerRead

MEASURED_DTYPE_BYTES = 2
FEW_TOKENS = 16
"""Tokens up to which a product reads each weight once."""


@dataclass(frozen=True)
class BusRates:
    """Bytes per second to one card. `copy` is None where nothing is known of its bus."""

    copy: float | None
    read: float | None
    """Bytes per second that the product of one token reads in place."""
    layer: LayerRead | None = None
    """Rates that were measured of this very layer."""

    def read_seconds(self, size: int, tokens: int) -> float | None:
        """Seconds in which a pass of `tokens` tokens reads this many bytes of weights in place."""
        if self.layer is not None:
            return size / interpolate(dict(self.layer.rates), tokens)
        if not self.read:
            return None
        again = max(1.0, tokens / float(measured("throughput")["uva_tokens_per_read"]))
        return size / self.read * again


def read_rates(fixed: FixedSettings, gpu: GpuFacts, layer: Sequence[tuple[int, int]]) -> BusRates:
    """The rates of that card's bus: the user's own figure, else what was measured, else the link's."""
    copied, read, known = gpu.host_bandwidth_bytes_per_second, None, None
    if fixed.spec.hardware.gpu.pcie_gbps is None:  # else it is the user's own figure
        copied = fixed.quantity(f"{COPY_RATE}.{gpu.index}") or copied
        read = fixed.quantity(f"{READ_RATE}.{gpu.index}")
        known = _find_layer(fixed, gpu, layer)
    share = float(measured("throughput")["uva_read_over_copy"])
    return BusRates(copied, read or (None if copied is None else copied * share), known)


def _find_layer(fixed: FixedSettings, gpu: GpuFacts, layer: Sequence[tuple[int, int]]) -> LayerRead | None:
    lesson = fixed.lessons.get(f"{LAYER_READS}.{gpu.index}")
    found: Sequence[LayerRead] = lesson.value if lesson is not None else ()
    return next((read for read in found if layer and read.matrices == tuple(layer)), None)


def layer_matrices(layout: WeightLayout) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the matrices of the model's most common layer on one rank; empty for quantized weights and
    for layers of routed experts, whose kernels read otherwise."""
    layer, _ = max(layout.architecture.distinct_layers, key=lambda pair: pair[1])
    if (
        layout.scheme.method is not None
        or layout.dtype_bytes != MEASURED_DTYPE_BYTES
        or any(parameter.copies > 1 for parameter in layer.parameters)
    ):
        return ()
    shapes = (parameter.shape_on_rank(layout.tensor_parallel) for parameter in layer.parameters)
    return tuple((rows, columns) for rows, columns in shapes if columns > 1)


def interpolate(rates: Mapping[int, float], tokens: int) -> float:
    """Bytes per second at `tokens` tokens: between the measured rates by the logarithm of the tokens, below and above
    them that of the nearest, less what a pass of more tokens reads again."""
    known = sorted(rates)
    if tokens >= known[-1]:
        return rates[known[-1]] * (known[-1] / tokens if known[-1] > FEW_TOKENS else 1.0)
    above = next(count for count in known if count >= tokens)
    if above == tokens or above == known[0]:
        return rates[above]
    below = known[known.index(above) - 1]
    part = math.log(tokens / below) / math.log(above / below)
    return float(rates[below] ** (1 - part) * rates[above] ** part)
