"""Valid values to a `RunSpec`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nexus_orch.types import (
    EngineSpec,
    EvidenceSpec,
    GpuSpec,
    HardwareSpec,
    HostSpec,
    KvCacheSpec,
    LimitsSpec,
    LoraSpec,
    MemorySpec,
    ModelSpec,
    PreloadSpec,
    ProbeSpec,
    RunSpec,
    ServeSpec,
    SpeculativeSpec,
    SweepConstraints,
    SweepSpec,
    WorkloadSpec,
)

Values = Mapping[str, Any]


def make_spec(values: Values, choices: Mapping[str, Any], origins: Mapping[str, str]) -> RunSpec:
    """The RunSpec of valid, settled values; `choices` holds the chosen option of each group (for the names)."""
    model = _make_model(_section(values, "model"), choices)
    return RunSpec(
        name=values.get("name") or _make_name(choices, model),
        model=model,
        hardware=_make_hardware(_section(values, "hardware"), choices),
        memory=_make_memory(_section(values, "memory")),
        engine=_make_engine(_section(values, "engine")),
        serve=_make_serve(_section(values, "serve")),
        workload=WorkloadSpec(**_section(values, "workload")),
        probe=ProbeSpec(**_section(values, "probe")),
        limits=LimitsSpec(**_section(values, "limits")),
        evidence=EvidenceSpec(**_section(values, "evidence")),
        sweep=make_sweep_spec(values),
        plugin=_section(values, "plugin"),
        origins=origins,
    )


def _section(values: Values, name: str) -> dict[str, Any]:
    """The part of that name without its nulls, so that the defaults of the record hold."""
    return {key: value for key, value in values.get(name, {}).items() if value is not None}


def _make_name(choices: Mapping[str, Any], model: ModelSpec) -> str:
    """<model>-<memory>-<hardware> of the chosen options; `model=local` says nothing, so its folder's name stands."""
    chosen = dict(choices)
    if chosen.get("model") == "local":
        chosen["model"] = _last_part(model.path) or model.name
    parts = [str(chosen[group]) for group in ("model", "memory", "hardware") if chosen.get(group)]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-._") or "run"


def _last_part(path: str | None) -> str:
    return re.split(r"[\\/]", (path or "").rstrip("\\/"))[-1]


def _make_model(section: Values, choices: Mapping[str, Any]) -> ModelSpec:
    name = _last_part(section.get("path")) or str(choices.get("model") or "")
    lora = _with_tuple(_with_tuple(_section(section, "lora"), "modules"), "target_modules")
    return ModelSpec(**{"name": name, **section, "lora": LoraSpec(**lora)})


def make_sweep_spec(values: Values) -> SweepSpec:
    """What valid, settled values ask of a sweep."""
    section = _section(values, "sweep")
    return SweepSpec(**{**section, "constraints": SweepConstraints(**_section(section, "constraints"))})


def _make_hardware(section: Values, choices: Mapping[str, Any]) -> HardwareSpec:
    gpu = _with_tuple(_section(section, "gpu"), "devices")
    parts = {"gpu": GpuSpec(**gpu), "host": HostSpec(**_section(section, "host"))}
    return HardwareSpec(**{"name": str(choices.get("hardware") or "auto"), **section, **parts})


def _make_memory(section: Values) -> MemorySpec:
    preload, kv_cache = PreloadSpec(**_section(section, "preload")), KvCacheSpec(**_section(section, "kv_cache"))
    dynamic = section.get("dynamic", "advise") or "off"  # YAML reads a bare `off` as false
    return MemorySpec(
        **{**_with_tuple(section, "offload_params"), "dynamic": dynamic, "preload": preload, "kv_cache": kv_cache}
    )


def _make_engine(section: Values) -> EngineSpec:
    env = {name: str(value) for name, value in _section(section, "env").items()}
    return EngineSpec(**{**section, "env": env})


def _make_serve(section: Values) -> ServeSpec:
    section = _with_tuple(section, "pipeline_partition")
    speculative = SpeculativeSpec(**_section(section, "speculative"))
    return ServeSpec(**{**section, "speculative": speculative, "extra_args": tuple(section.get("extra_args", ()))})


def _with_tuple(section: Values, key: str) -> Values:
    """A section with its list under `key`, where there is one, as records hold it."""
    return {**section, key: tuple(section[key])} if key in section else section
