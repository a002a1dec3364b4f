"""The settings of images, and of the model's configuration, in the words of each release."""

from __future__ import annotations

from typing import Any

from nexus_orch.adapt.ways import Table, UnwritableError, Way
from nexus_orch.releases.models import (
    joins_rope_parameters,
    serves_language_alone,
    takes_limits_as_json,
    takes_rope_scaling,
)


def write_limits(value: Any) -> str:
    """Counts of each kind as older releases read them: image=4,video=1. Raises UnwritableError for more than counts."""
    if not all(isinstance(count, int) for count in value.values()):
        raise UnwritableError("takes counts alone", dict.fromkeys(value, 1))
    return ",".join(f"{name}={count}" for name, count in value.items())


_LIMITS, _OVERRIDES = "--limit-mm-per-prompt", "--hf-overrides"

MODEL_CONFIG: Table = {
    "model.rope_scaling": (
        Way("--rope-scaling", within="", releases=takes_rope_scaling),
        Way(_OVERRIDES, within="rope_scaling", releases=joins_rope_parameters.earlier),
        Way(_OVERRIDES, within="rope_parameters"),
    ),
    "model.hf_overrides": (Way(_OVERRIDES, within=""),),
    "model.limit_mm_per_prompt": (
        Way(_LIMITS, write=write_limits, releases=takes_limits_as_json.earlier),
        Way(_LIMITS, within=""),
    ),
    "model.language_model_only": (
        Way(
            releases=serves_language_alone.earlier,
            silent=(False,),
            refused=f"it has no --language-model-only ({serves_language_alone.span} have it)",
            instead=f"set model.limit_mm_per_prompt={{image:0,video:0}}, or use vLLM {serves_language_alone.since}",
        ),
        Way("--language-model-only", silent=(False,)),
    ),
}
