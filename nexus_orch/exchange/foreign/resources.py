"""Descriptions of servers that operators and Ray turn into vLLM: KServe, KubeAI and Ray Serve LLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, mappings, read_yaml, text_of, texts
from nexus_orch.exchange.foreign.kubernetes import cards_of, parse_environment
from nexus_orch.exchange.foreign.server_file import words_of_arguments
from nexus_orch.exchange.start import Beside, Container, Start, broken
from nexus_orch.exchange.text.variables import split_words

_KSERVE_OPTIONS = {"--model_id": "--model", "--model_dir": "--model", "--model_name": "--served-model-name"}
"""Options of KServe's Hugging Face server that vLLM calls otherwise; it passes the others on."""
_KSERVE_OWN = frozenset({"--backend", "--http_port", "--grpc_port", "--workers", "--task", "--disable_lower_case"})
_ENGINE_KEYS = {"model_source": "model", "model_id": "served-model-name"}


def parse_resource(document: Mapping[str, Any], beside: Beside) -> list[Start] | None:
    """The servers of a document of one of these kinds; None when it is of no such kind. Raises ConfigError when it
    describes another engine."""
    kind = text_of(document.get("kind"))
    spec = mapping_of(document.get("spec"))
    place = f"{kind} {text_of(mapping_of(document.get('metadata')).get('name'))}".strip()
    found: list[Start] | None = None
    if kind == "InferenceService" and "model" in mapping_of(spec.get("predictor")):
        found = [_inference_service(place, document, beside)]
    elif kind == "LLMInferenceService":
        found = [_llm_service(place, spec, beside)]
    elif kind == "Model" and text_of(document.get("apiVersion")).startswith("kubeai.org"):
        found = [_kubeai(place, document)]
    elif kind == "RayService":
        inner = text_of(spec.get("serveConfigV2"))
        documents = read_yaml(inner, "serveConfigV2") if inner else []
        found = [start for item in documents for start in _applications(mapping_of(item), place, beside)]
    elif "applications" in document:
        found = list(_applications(document, "", beside))
    elif "llm_configs" in document:
        found = list(_llm_configs(document, "", beside))
    return found


def _model_of(uri: str) -> tuple[str, list[str]]:
    """The model that an address names, and what is to be said about it."""
    scheme, has_scheme, path = uri.partition("://")
    if not has_scheme:
        return uri, []
    if scheme == "hf":
        return path.partition(":")[0], []
    return uri, [f"the model comes from {uri}, which the operator fetches"]


def _inference_service(place: str, document: Mapping[str, Any], beside: Beside) -> Start:
    model = mapping_of(mapping_of(mapping_of(document.get("spec")).get("predictor")).get("model"))
    format_name = text_of(mapping_of(model.get("modelFormat")).get("name"))
    words: list[str] = []
    given = texts(model.get("args"))
    backend = next((word.partition("=")[2] for word in given if word.startswith("--backend=")), "")
    if backend not in ("", "auto", "vllm") or format_name not in ("huggingface", "vllm", "vLLM"):
        raise broken(
            f"{place} serves the format {format_name} {backend}".rstrip() + ", not with vLLM", "name another file"
        )
    rest = [
        part for word in given for part in (word.split("=", 1) if word.startswith("--") and "=" in word else [word])
    ]
    while rest:
        word = rest.pop(0)
        if word in _KSERVE_OWN:
            if rest and not rest[0].startswith("--"):
                rest.pop(0)
        else:
            words.append(_KSERVE_OPTIONS.get(word, word))
    notes: list[str] = []
    uri = text_of(model.get("storageUri"))
    if "--model" not in words and uri:
        path, notes = _model_of(uri)
        words = [path, *words]
    if "--served-model-name" not in words:
        words += ["--served-model-name", text_of(mapping_of(document.get("metadata")).get("name")) or "model"]
    env = parse_environment(model.get("env"), beside)
    image = text_of(model.get("image"))
    start = Start(tuple(words), env, place, Container(image) if image else None, cards=cards_of(model.get("resources")))
    told = f"KServe's {format_name} runtime starts vLLM of its own release; its image names it, not this file"
    return start.with_notes(*notes).with_assumptions(*([] if image else [told]))


def _llm_service(place: str, spec: Mapping[str, Any], beside: Beside) -> Start:
    model = mapping_of(spec.get("model"))
    path, notes = _model_of(text_of(model.get("uri")))
    words = [path] if path else []
    if text_of(model.get("name")):
        words += ["--served-model-name", text_of(model.get("name"))]
    parallel = mapping_of(spec.get("parallelism"))
    for key, option in (
        ("tensor", "--tensor-parallel-size"),
        ("pipeline", "--pipeline-parallel-size"),
        ("data", "--data-parallel-size"),
    ):
        if key in parallel:
            words += [option, text_of(parallel[key])]
    if parallel.get("expert") is True:
        words.append("--enable-expert-parallel")
    containers = mappings(mapping_of(spec.get("template")).get("containers"))
    main = next((item for item in containers if item.get("name") == "main"), containers[0] if containers else {})
    env = parse_environment(main.get("env"), beside)
    words += [*texts(main.get("args")), *split_words(env.pop("VLLM_ADDITIONAL_ARGS", ""))]
    image = text_of(main.get("image"))
    return Start(
        tuple(words), env, place, Container(image) if image else None, cards=cards_of(main.get("resources"))
    ).with_notes(*notes)


def _kubeai(place: str, document: Mapping[str, Any]) -> Start:
    spec = mapping_of(document.get("spec"))
    engine = text_of(spec.get("engine"))
    if engine.lower() != "vllm":
        raise broken(f"{place} is served by {engine or 'no engine'}, not by vLLM", "name another file")
    path, notes = _model_of(text_of(spec.get("url")))
    words = [path, *texts(spec.get("args"))]
    if not any(word.startswith("--served-model-name") for word in words):
        words += ["--served-model-name", text_of(mapping_of(document.get("metadata")).get("name"))]
    env = {name: text_of(value) for name, value in mapping_of(spec.get("env")).items()}
    image = text_of(spec.get("image"))
    profile, _, count = text_of(spec.get("resourceProfile")).partition(":")
    cards = count_of(count or 1) if "gpu" in profile else None
    for adapter in mappings(spec.get("adapters")):
        notes.append(f"the adapter {text_of(adapter.get('name'))}, which KubeAI loads after the start")
    return Start(tuple(words), env, place, Container(image) if image else None, cards=cards).with_notes(*notes)


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
