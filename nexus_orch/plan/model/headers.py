"""What a checkpoint's tensor headers say about weights that were computed from the configuration."""

from __future__ import annotations

import re

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.types import CheckpointFacts

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_VISION = re.compile(r"(?:^|\.)(?:visual|vision|vision_tower|vision_model)\.")


def layer_scale(architecture: Architecture, scheme: Scheme, checkpoint: CheckpointFacts | None) -> float:
    """Bytes of the decoder layers in the headers over the computed bytes; 1 when the headers say nothing.

    Only for quantized checkpoints: others are cast while loading, and their shapes follow from the configuration.
    MXFP4 grows while loading, so that its headers understate it. Layers beyond the model's own are multi-token
    prediction, which vLLM does not load.
    """
    if checkpoint is None or not checkpoint.tensors or scheme.method in (None, "mxfp4", "bitsandbytes"):
        return 1.0
    stored = sum(
        tensor.bytes
        for tensor in checkpoint.tensors
        if (match := _LAYER.search(tensor.name))
        and int(match.group(1)) < len(architecture.layers)
        and not _VISION.search(tensor.name)
        and not tensor.name.endswith("inv_freq")
    )
    computed = sum(
        scheme.tensor_bytes(parameter, 1, 2, index)
        for index, layer in enumerate(architecture.layers)
        for parameter in layer.parameters
    )
    scale = stored / computed if computed else 1.0
    # Far off means that the layers have other names or the format is another one: keep to what was computed.
    return scale if 0.5 < scale < 2.0 else 1.0
