"""Keys and values in 8 bits: for which models, cards and releases, and when the planner chooses them by itself."""

from __future__ import annotations

from dataclasses import replace

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.releases.models import narrow_cache_on_all_cards
from nexus_orch.types import Choice, Facts

NARROW_TYPE = "fp8"


def refuse_narrow_cache(architecture: Architecture, facts: Facts) -> str | None:
    """Why keys and values of this run are better not kept in 8 bits; None when they can be.

    Without scales in the checkpoint they are rounded as they are. Models that add a bias to their keys and do not
    normalize them have keys too large for that: Qwen2 and Qwen2.5 answer nonsense with an FP8 cache (QwenLM/Qwen3 issue
    840, NVIDIA/TensorRT-LLM issue 4218), Qwen3, which normalizes, does not.
    """
    if facts.engine.device == "cpu" or not facts.machine.gpus:
        return "a CPU engine has no such cache"
    if not narrow_cache_on_all_cards(facts.engine.version):
        return f"releases before {narrow_cache_on_all_cards.since} refuse it on some cards"
    lacking = next((gpu.name for gpu in facts.machine.gpus if not gpu.supports_fp8), None)
    if lacking is not None:
        return f"{lacking} does not compute in 8 bits"
    special = architecture.is_guess or architecture.is_mla or architecture.is_hybrid
    if special or architecture.model_type == "gpt_oss":  # its attention sinks leave few kernels to choose from
        return "the caches of this architecture are of another kind"
    names = {parameter.name for layer, _ in architecture.distinct_layers for parameter in layer.parameters}
    if any(name.endswith("qkv_proj.bias") for name in names) and not any("k_norm" in name for name in names):
        return "keys with a bias are too large for 8 bits without scales"
    return None


def make_narrow(inputs: Inputs) -> Inputs | None:
    """The same run with keys and values in 8 bits; None where that is better not done, or not ours to choose.

    Who pins a strategy has said how the memory is to be used: such a run is judged as it is written, and 8 bits are
    among the alternatives that are shown to it.
    """
    pinned = inputs.fixed.has("memory.kv_cache.dtype") or inputs.fixed.has("memory.strategy")
    if pinned or refuse_narrow_cache(inputs.architecture, inputs.facts):
        return None
    return replace(inputs, derived_kv_dtype=NARROW_TYPE)


def narrow_choice(inputs: Inputs, context: int, wide: str | None) -> Choice:
    """The choice with its reason. It costs quality, so that it is never made for a run that fits without it; `wide`
    names the strategy that would keep the full width in host RAM, where there is one."""
    reason = f"{context:,} tokens do not fit in {inputs.dtype.value} beside the weights, and in 8 bits they do"
    if wide is not None:
        reason += f"; {wide} keeps full precision, with weights in host RAM"
    return Choice("memory.kv_cache.dtype", NARROW_TYPE, "derived", reason)
