"""Profiles as files, for comparing many of them: read without Hydra, each by itself and without overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from nexus_orch.bounded_yaml import load_yaml
from nexus_orch.errors import ConfigError
from nexus_orch.facts.machine.catalogue import describe_card, find_gpu
from nexus_orch.facts.machine.gpus import OTHER_GPU_RESERVE_BYTES
from nexus_orch.facts.machine.host import OTHER_HOST_RESERVE_BYTES
from nexus_orch.facts.model.model import read_model
from nexus_orch.types import GIB, HostFacts, MachineFacts, ModelFacts, ModelSpec

_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")


def read_profiles(conf_dirs: Iterable[Path], group: str, pattern: str = "*") -> dict[str, dict[str, Any]]:
    """The profiles of a group by name; of equal names the one in the first folder. What is no mapping is left out."""
    found: dict[str, dict[str, Any]] = {}
    for conf in conf_dirs:
        for file in sorted((conf / group).glob(f"{pattern}.yaml")):
            try:
                content = load_yaml(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            if isinstance(content, dict):
                found.setdefault(file.stem, content)
    return found


def make_model_spec(name: str, profile: Mapping[str, Any]) -> ModelSpec:
    """The model of a profile; settings that decide nothing about its size are left out."""
    config, path = profile.get("config"), profile.get("path")
    return ModelSpec(name, path if isinstance(path, str) else None, config if isinstance(config, dict) else None)


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


def read_models(conf_dirs: Iterable[Path]) -> dict[str, ModelFacts]:
    """All model profiles that have their architecture inlined, as they are written: no folder is looked at."""
    specs = (make_model_spec(name, profile) for name, profile in read_profiles(conf_dirs, "model").items())
    return {spec.name: ModelFacts(spec.name, spec.path, spec.config, "profile") for spec in specs if spec.config}


def read_machines(conf_dirs: Iterable[Path]) -> dict[str, MachineFacts]:
    """All hardware profiles that name a card of the catalogue, as the catalogue describes it: nothing is measured."""
    found = ((name, _describe_machine(name, p)) for name, p in read_profiles(conf_dirs, "hardware").items())
    return {name: machine for name, machine in found if machine is not None}


def _describe_machine(name: str, profile: Mapping[str, Any]) -> MachineFacts | None:
    gpu, host = profile.get("gpu"), profile.get("host")
    if not isinstance(gpu, dict) or not isinstance(gpu.get("model"), str):
        return None
    card = find_gpu(gpu["model"], _whole(gpu.get("memory_mib")))
    if card is None:
        return None
    one = describe_card(card)
    one = replace(one, free_bytes=max(one.total_bytes - OTHER_GPU_RESERVE_BYTES, 0))
    gpus = tuple(replace(one, index=index) for index in range(_whole(gpu.get("count")) or 1))
    ram = (_whole(host.get("ram_gib") if isinstance(host, dict) else None) or 0) * GIB
    facts = HostFacts(ram, max(ram - OTHER_HOST_RESERVE_BYTES, 0), 0, 0, 1, "profile")
    return MachineFacts(name, gpus, facts, "linux", is_this_machine=False)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None
