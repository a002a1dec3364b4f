"""Descriptions of servers that operators and Ray turn into vLLM: KServe, KubeAI and Ray Serve LLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexus_orch.exchange.foreign.documents import mapping_of, mappings, read_yaml, text_of
from nexus_orch.exchange.foreign.helm_values import stack_runtime
from nexus_orch.exchange.foreign.kserve import Runtimes, inference_service, llm_service
from nexus_orch.exchange.foreign.kubeai import kubeai_model
from nexus_orch.exchange.foreign.server_file import words_of_arguments
from nexus_orch.exchange.start import Beside, Start, broken


def parse_resource(document: Mapping[str, Any], beside: Beside, runtimes: Runtimes) -> list[Start] | None:
    """The servers of a document of one of these kinds; None when it is of no such kind. `runtimes` are those of KServe
    beside it. Raises ConfigError when it describes another engine."""
    kind = text_of(document.get("kind"))
    spec = mapping_of(document.get("spec"))
    place = f"{kind} {text_of(mapping_of(document.get('metadata')).get('name'))}".strip()
    found: list[Start] | None = None
    if kind == "InferenceService" and "model" in mapping_of(spec.get("predictor")):
        found = inference_service(place, document, runtimes, beside)
    elif kind == "LLMInferenceService":
        found = [llm_service(place, spec, beside)]
    elif kind == "Model" and text_of(document.get("apiVersion")).startswith("kubeai.org"):
        found = [kubeai_model(place, text_of(mapping_of(document.get("metadata")).get("name")), spec)]
    elif kind == "VLLMRuntime":
        found = [stack_runtime(place, spec, beside)]
    elif kind == "RayService":
        inner = text_of(spec.get("serveConfigV2"))
        documents = read_yaml(inner, "serveConfigV2") if inner else []
        found = [start for item in documents for start in _applications(mapping_of(item), place, beside)]
    elif "applications" in document:
        found = list(_applications(document, "", beside))
    elif "llm_configs" in document:
        found = list(_llm_configs(document, "", beside))
    return found


def _applications(document: Mapping[str, Any], place: str, beside: Beside) -> Iterator[Start]:
    for application in mappings(document.get("applications")):
        name = ", ".join(part for part in (place, f"application {text_of(application.get('name'))}".strip()) if part)
        yield from _llm_configs(mapping_of(application.get("args")), name, beside)


def _llm_configs(content: Mapping[str, Any], place: str, beside: Beside) -> Iterator[Start]:
    items = content.get("llm_configs")
    for item in items if isinstance(items, list) else []:
        config = item
        if isinstance(item, str):  # a file of its own
            text = beside.read(item)
            if text is None:
                raise broken(f"there is no file {item}, which llm_configs names", "put it beside this file")
            documents = read_yaml(text, item)
            config = documents[0] if documents else {}
        if isinstance(config, dict):
            yield _ray_model(config, place)


def _ray_model(config: Mapping[str, Any], place: str) -> Start:
    """One model of Ray Serve LLM: its engine_kwargs are vLLM's engine arguments by their Python names."""
    loading = mapping_of(config.get("model_loading_config"))
    served = text_of(loading.get("model_id"))
    model = text_of(loading.get("model_source")) or served
    words = words_of_arguments(mapping_of(config.get("engine_kwargs")))
    env = {
        name: text_of(value)
        for name, value in mapping_of(mapping_of(config.get("runtime_env")).get("env_vars")).items()
    }
    name = ", ".join(part for part in (place, f"model {served}".strip()) if part)
    start = Start(
        (*([model] if model else []), *words, *(["--served-model-name", served] if served else [])), env, name
    )
    notes = []
    if config.get("accelerator_type"):
        notes.append(f"accelerator_type {text_of(config.get('accelerator_type'))}: name the cards with hardware=NAME")
    if config.get("deployment_config"):
        notes.append("deployment_config: Ray starts as many servers as it says")
    if config.get("lora_config"):
        notes.append("lora_config: Ray loads the adapters")
    return start.with_notes(*notes)
