"""KubeAI: models as its operator describes them, and the catalogue of its Helm chart.

Source: charts/models/values.yaml of substratusai/kubeai.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, mappings, text_of, texts
from nexus_orch.exchange.foreign.uris import model_of
from nexus_orch.exchange.start import Container, Start, broken


def kubeai_model(place: str, name: str, spec: Mapping[str, Any]) -> Start:
    """The server of one model. Raises ConfigError when another engine serves it."""
    engine = text_of(spec.get("engine"))
    if engine.lower() != "vllm":
        raise broken(f"{place} is served by {engine or 'no engine'}, not by vLLM", "name another file")
    path, notes = model_of(text_of(spec.get("url")))
    words = [path, *texts(spec.get("args"))]
    if not any(word.startswith("--served-model-name") for word in words):
        words += ["--served-model-name", name]
    env = {key: text_of(value) for key, value in mapping_of(spec.get("env")).items()}
    image = text_of(spec.get("image"))
    profile, _, count = text_of(spec.get("resourceProfile")).partition(":")
    cards = count_of(count or 1) if "gpu" in profile else None
    for adapter in mappings(spec.get("adapters")):
        notes.append(f"the adapter {text_of(adapter.get('name'))}, which KubeAI loads after the start")
    start = Start(tuple(words), env, place, Container(image) if image else None, cards=cards)
    told = f"the profile {profile} names the cards: hardware=NAME says them here"
    return start.with_notes(*notes).with_assumptions(*([told] if "gpu" in profile else []))


def is_catalogue(document: Mapping[str, Any]) -> bool:
    """Whether these are values of the chart `models`."""
    models = [mapping_of(value) for value in mapping_of(document.get("catalog")).values()]
    return bool(models) and all("url" in model and "engine" in model for model in models)


def parse_catalogue(document: Mapping[str, Any]) -> list[Start]:
    """The models that are switched on and that vLLM serves; the others are named."""
    models = {name: mapping_of(value) for name, value in mapping_of(document.get("catalog")).items()}
    served = [
        name
        for name, model in models.items()
        if model.get("enabled") is True and text_of(model.get("engine")).lower() == "vllm"
    ]
    if not served:
        raise broken("no model of this catalogue is enabled and served by vLLM", "enable the one that is meant")
    others = [
        f"{name} ({text_of(model.get('engine'))}{'' if model.get('enabled') is True else ', not enabled'})"
        for name, model in models.items()
        if name not in served
    ]
    note = [f"the catalogue's other models: {', '.join(others)}"] if others else []
    return [kubeai_model(f"model {name}", name, models[name]).with_notes(*note) for name in served]
