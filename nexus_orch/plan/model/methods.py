"""Names of quantization methods: one method has several, in checkpoints, on the command line and over the releases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FAMILIES: Mapping[str, frozenset[str]] = {
    "awq": frozenset({"awq", "awq_marlin", "auto_awq", "cpu_awq"}),
    "gptq": frozenset({"gptq", "gptq_marlin", "auto_gptq", "gptq_bitblas", "cpu_gptq"}),
    "auto-round": frozenset({"auto-round", "auto_round", "inc"}),
    "modelopt": frozenset({"modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8", "nvfp4", "petit_nvfp4"}),
    "mxfp4": frozenset({"mxfp4", "gpt_oss_mxfp4"}),
    "compressed-tensors": frozenset({"compressed-tensors", "compressed_tensors"}),
}
"""The names of a method: kernels that are chosen for it, and what earlier or later releases call it."""

_CANONICAL = {name: method for method, names in _FAMILIES.items() for name in names}

_READS: Mapping[str, frozenset[str]] = {
    "moe_wna16": frozenset({"awq", "gptq"}),
    "humming": frozenset({"awq", "gptq", "fp8", "modelopt", "compressed-tensors", "mxfp4", "auto-round"}),
}
"""Methods of vLLM that read checkpoints of others (override_quantization_method)."""

_MODELOPT_PARTS: Mapping[str, tuple[str, ...]] = {
    "modelopt_fp4": ("modelopt_fp4", "nvfp4"),
    "modelopt_mixed": ("modelopt_mixed",),
    "modelopt_mxfp8": ("modelopt_mxfp8",),
}
"""Methods that read one of ModelOpt's algorithms, by the names of the releases that have it."""


def canonical_method(name: str) -> str:
    """One name for a method that has several."""
    return _CANONICAL.get(name.lower(), name.lower())


def reads(method: str, stored: str) -> bool:
    """Whether `--quantization METHOD` reads weights that are stored with the other one."""
    ours = canonical_method(stored)
    return canonical_method(method) == ours or ours in _READS.get(method.lower(), ())


def stored_method(quantization: Mapping[str, Any]) -> str | None:
    """The method that a release must have to read these weights; of ModelOpt the part that reads the algorithm."""
    method = quantization.get("quant_method")
    if not isinstance(method, str):
        return None
    if canonical_method(method) != "modelopt":
        return method.lower()
    nested = quantization.get("quantization")
    algorithm = str((nested if isinstance(nested, Mapping) else quantization).get("quant_algo") or "").upper()
    if algorithm == "MIXED_PRECISION":
        return "modelopt_mixed"
    return "modelopt_fp4" if "NVFP4" in algorithm else "modelopt_mxfp8" if algorithm == "MXFP8" else "modelopt"


def engine_names(method: str) -> frozenset[str]:
    """The names under which a release may list this method among the values of `--quantization`."""
    if method in _MODELOPT_PARTS:
        return frozenset(_MODELOPT_PARTS[method])
    canonical = canonical_method(method)
    if canonical == "modelopt":
        return frozenset({"modelopt"})
    return _FAMILIES.get(canonical, frozenset({canonical}))
