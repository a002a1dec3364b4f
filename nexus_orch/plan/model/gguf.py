"""GGUF checkpoints: planned from the bytes of their tensors; their header or a config.json tells the architecture."""

from __future__ import annotations

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.model.formats import WHOLE_ROW, Format, Scheme
from nexus_orch.plan.model.parameters import count_parameters
from nexus_orch.releases.models import reads_gguf_by_plugin
from nexus_orch.types import GIB, CheckpointFacts, Facts

GGUF = "gguf"


def choose_gguf_scheme(architecture: Architecture, checkpoint: CheckpointFacts | None) -> Scheme | None:
    """All matrices with the mean number of bits of the files; None when the checkpoint is no GGUF."""
    if checkpoint is None or checkpoint.format != GGUF:
        return None
    counts = count_parameters(architecture)
    bits = checkpoint.total_bytes * 8 / max(1, counts.total - counts.vision)
    return Scheme("gguf", Format(bits, WHOLE_ROW, scale_bytes=0))


def gguf_notes(facts: Facts) -> tuple[str, ...]:
    """What a reader should know before trusting the plan of a GGUF checkpoint."""
    checkpoint = facts.model.checkpoint
    if checkpoint is None or checkpoint.format != GGUF:
        return ()
    notes = [f"GGUF weights are planned from the bytes of their tensors ({checkpoint.total_bytes / GIB:.2f} GiB)"]
    if reads_gguf_by_plugin(facts.engine.version):
        notes.append(
            f"vLLM {facts.engine.version} reads GGUF only with a plugin ({reads_gguf_by_plugin.span}); without it, "
            "take the model's safetensors or an AWQ, GPTQ or FP8 checkpoint"
        )
    if len(checkpoint.files) > 1 and not all("-of-" in name for name in checkpoint.files):
        notes.append(f"the folder holds {len(checkpoint.files)} GGUF files, counted together: vLLM loads one of them")
    return tuple(notes)
