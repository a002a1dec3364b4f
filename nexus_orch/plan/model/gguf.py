"""GGUF checkpoints: planned from the bytes of their tensors; their header or a config.json tells the architecture."""

from __future__ import annotations

from packaging.version import Version

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.model.parameters import count_parameters
from nexus_orch.plan.model.quantization import Scheme
from nexus_orch.types import GIB, CheckpointFacts, Facts
from nexus_orch.types.releases import parse_version

PLUGIN_FROM = Version("0.25")
"""The format left vLLM's own code between 0.22 and 0.25.1; since then it comes with a plugin."""


def choose_gguf_scheme(architecture: Architecture, checkpoint: CheckpointFacts | None) -> Scheme | None:
    """All matrices with the mean number of bits of the files; None when the checkpoint is no GGUF."""
    if checkpoint is None or checkpoint.format != "gguf":
        return None
    counts = count_parameters(architecture)
    return Scheme("gguf", checkpoint.total_bytes * 8 / max(1, counts.total - counts.vision), 1 << 40, scale_bytes=0)


def gguf_notes(facts: Facts) -> tuple[str, ...]:
    """What a reader should know before trusting the plan of a GGUF checkpoint."""
    checkpoint = facts.model.checkpoint
    if checkpoint is None or checkpoint.format != "gguf":
        return ()
    notes = [f"GGUF weights are planned from the bytes of their tensors ({checkpoint.total_bytes / GIB:.2f} GiB)"]
    if parse_version(facts.engine.version) >= PLUGIN_FROM:
        notes.append(
            f"vLLM {facts.engine.version} reads GGUF only with a plugin (0.25 and later); without it, take the model's "
            "safetensors or an AWQ, GPTQ or FP8 checkpoint"
        )
    if len(checkpoint.files) > 1 and not all("-of-" in name for name in checkpoint.files):
        notes.append(f"the folder holds {len(checkpoint.files)} GGUF files, counted together: vLLM loads one of them")
    return tuple(notes)
