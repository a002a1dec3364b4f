"""Options that change the model's configuration: the plan reads the configuration that vLLM will have. Pure.

Sources: vllm/transformers_utils/config.py (`get_config`: `config.update(hf_overrides)`, nested mappings one by one from
0.9 on) and vllm/config/model.py (0.8.5: `rope_scaling` and `rope_theta` are written into the configuration).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.adapt.arguments import Argument, read_arguments
from nexus_orch.releases.options import find_by_option
from nexus_orch.types import EngineFacts, ModelFacts, RunSpec

_WHOLE = {"--hf-overrides": (), "--rope-scaling": ("rope_scaling",), "--rope-theta": ("rope_theta",)}
"""Options with the keys under which their value stands in the configuration."""
_TEXT = "text_config"
_OF_TEXT = ("rope_scaling", "rope_parameters", "rope_theta")
"""Keys that count in the language model's own section, where a model has one."""


def override_config(model: ModelFacts, spec: RunSpec, engine: EngineFacts) -> ModelFacts:
    """The model with its configuration as settings and extra arguments change it. What cannot be read is left to the
    check of the extra arguments."""
    changes: dict[str, Any] = dict(spec.model.hf_overrides or {})
    if spec.model.rope_scaling is not None:
        changes["rope_scaling"] = dict(spec.model.rope_scaling)
    told = ["model.hf_overrides"] if spec.model.hf_overrides else []
    told += ["model.rope_scaling"] if spec.model.rope_scaling is not None else []
    by_settings = len(changes)
    for given in read_arguments(spec.serve.extra_args, engine).options:
        keys = find_by_option(_WHOLE, given.flag.name) if given.flag is not None else None
        if keys is not None:
            changes = _merged(changes, _read(given, keys))
    if not changes:
        return model
    told += ["serve.extra_args"] if len(changes) > by_settings or not told else []
    note = f"the configuration is changed by {' and '.join(told)}: {', '.join(changes)}"
    return replace(model, config=_applied(model.config, changes), notes=(*model.notes, note))


def _read(given: Argument, keys: tuple[str, ...]) -> dict[str, Any]:
    path = [*keys, *(given.keys.split(".") if given.keys else ())]
    text = given.values[0] if given.values else ""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if not path:
        return value if isinstance(value, dict) else {}
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _applied(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = _merged(config, changes)
    section = merged.get(_TEXT)
    for key in _OF_TEXT:
        if key in changes and isinstance(section, Mapping):
            section = _merged(section, {key: changes[key]})
            merged[_TEXT] = section
    return merged


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings are changed key by key."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
