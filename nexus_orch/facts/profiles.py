"""Profiles as files, for comparing many of them: read without Hydra, each by itself and without overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from nexus_orch.errors import ConfigError
from nexus_orch.facts.model import read_model
from nexus_orch.types import ModelFacts, ModelSpec

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")


def read_profiles(conf_dirs: Iterable[Path], group: str, pattern: str = "*") -> dict[str, dict[str, Any]]:
    """The profiles of a group by name; of equal names the one in the first folder. What is no mapping is left out."""
    found: dict[str, dict[str, Any]] = {}
    for conf in conf_dirs:
        for file in sorted((conf / group).glob(f"{pattern}.yaml")):
            try:
                content = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
            except (OSError, ValueError, yaml.YAMLError):
                continue
            if isinstance(content, dict):
                found.setdefault(file.stem, content)
    return found


def make_model_spec(name: str, profile: Mapping[str, Any]) -> ModelSpec:
    """The model of a profile; settings that decide nothing about its size are left out."""
    config = profile.get("config")
    return ModelSpec(name=name, path=profile.get("path"), config=config if isinstance(config, dict) else None)


def read_siblings(spec: ModelSpec, config: Mapping[str, Any], conf_dirs: Iterable[Path]) -> dict[str, ModelFacts]:
    """The quantized forms of an unquantized model among the profiles: NAME_*, with the same shape."""
    if not spec.name or config.get("quantization_config") or any(letter in spec.name for letter in "*?[]/\\"):
        return {}
    found: dict[str, ModelFacts] = {}
    for name, profile in read_profiles(conf_dirs, "model", f"{spec.name}_*").items():
        other = make_model_spec(name, profile)
        quantized = (other.config or {}).get("quantization_config")
        if not isinstance(quantized, dict) or "quant_method" not in quantized:
            continue
        if all((other.config or {}).get(key) == config.get(key) for key in _SHAPE):
            try:
                found[name] = read_model(other, {})
            except ConfigError:  # its folder is damaged: no alternative
                continue
    return found
