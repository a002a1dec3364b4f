"""KServe: what an InferenceService and its runtime, or an LLMInferenceService, turn into vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, mappings, text_of, texts
from nexus_orch.exchange.foreign.kubernetes import Cluster, cards_of, parse_container, parse_environment
from nexus_orch.exchange.foreign.uris import model_of
from nexus_orch.exchange.start import Beside, Container, Start, broken
from nexus_orch.exchange.text.variables import split_words

_OPTIONS = {"--model_id": "--model", "--model_dir": "--model", "--model_name": "--served-model-name"}
"""Options of KServe's Hugging Face server that vLLM calls otherwise; it passes the others on."""
_OWN = frozenset({"--backend", "--http_port", "--grpc_port", "--workers", "--task", "--disable_lower_case"})
_RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")
_FOLDER = "/mnt/models"
"""Where KServe puts what storageUri names."""
_NAME = "{{.Name}}"

Runtimes = Mapping[str, Mapping[str, Any]]


def find_runtimes(documents: Sequence[Mapping[str, Any]]) -> Runtimes:
    """The containers of the runtimes in these documents, by the runtimes' names."""
    found: dict[str, Mapping[str, Any]] = {}
    for one in documents:
        containers = mappings(mapping_of(one.get("spec")).get("containers"))
        if text_of(one.get("kind")) in _RUNTIMES and containers:
            named = [item for item in containers if item.get("name") == "kserve-container"]
            found[_name_of(one)] = (named or containers)[0]
    return found


def is_used_runtime(document: Mapping[str, Any], documents: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a runtime is one that a service beside it names."""
    used = {text_of(_model(one).get("runtime")) for one in documents if text_of(one.get("kind")) == "InferenceService"}
    return text_of(document.get("kind")) in _RUNTIMES and _name_of(document) in used


def _name_of(document: Mapping[str, Any]) -> str:
    return text_of(mapping_of(document.get("metadata")).get("name"))


def _model(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping_of(mapping_of(mapping_of(document.get("spec")).get("predictor")).get("model"))


def inference_service(place: str, document: Mapping[str, Any], runtimes: Runtimes, beside: Beside) -> list[Start]:
    """The server of an InferenceService. Raises ConfigError when another engine serves it."""
    runtime = runtimes.get(text_of(_model(document).get("runtime")))
    if runtime is not None:
        return _with_runtime(place, document, runtime, beside)
    return [_by_itself(place, document, beside)]


def _with_runtime(place: str, document: Mapping[str, Any], runtime: Mapping[str, Any], beside: Beside) -> list[Start]:
    """One container of both: the service's arguments follow the runtime's, its other values win."""
    model = _model(document)
    path, notes = model_of(text_of(model.get("storageUri")))
    words = {_NAME: _name_of(document), "{{ .Name }}": _name_of(document)}
    if path:
        words[_FOLDER] = path
    container = {
        **runtime,
        "args": [_filled(word, words) for word in (*texts(runtime.get("args")), *texts(model.get("args")))],
        "env": [*mappings(runtime.get("env")), *mappings(model.get("env"))],
        "resources": model.get("resources") or runtime.get("resources"),
    }
    return [start.with_notes(*notes) for start in parse_container(place, container, Cluster(beside))]


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _by_itself(place: str, document: Mapping[str, Any], beside: Beside) -> Start:
    model = _model(document)
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
        if word in _OWN:
            if rest and not rest[0].startswith("--"):
                rest.pop(0)
        else:
            words.append(_OPTIONS.get(word, word))
    notes: list[str] = []
    uri = text_of(model.get("storageUri"))
    if "--model" not in words and uri:
        path, notes = model_of(uri)
        words = [path, *words]
    if "--served-model-name" not in words:
        words += ["--served-model-name", _name_of(document) or "model"]
    env = parse_environment(model.get("env"), beside)
    image = text_of(model.get("image"))
    start = Start(tuple(words), env, place, Container(image) if image else None, cards=cards_of(model.get("resources")))
    told = f"KServe's {format_name} runtime starts vLLM of its own release; its image names it, not this file"
    return start.with_notes(*notes).with_assumptions(*([] if image else [told]))


def llm_service(place: str, spec: Mapping[str, Any], beside: Beside) -> Start:
    """The server of an LLMInferenceService; `parallelism` says how many machines it takes."""
    model = mapping_of(spec.get("model"))
    path, notes = model_of(text_of(model.get("uri")))
    words = [path] if path else []
    if text_of(model.get("name")):
        words += ["--served-model-name", text_of(model.get("name"))]
    parallel = mapping_of(spec.get("parallelism"))
    for key, option in (
        ("tensor", "--tensor-parallel-size"),
        ("pipeline", "--pipeline-parallel-size"),
        ("data", "--data-parallel-size"),
        ("dataLocal", "--data-parallel-size-local"),
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
    data, local = count_of(parallel.get("data")), count_of(parallel.get("dataLocal"))
    return Start(
        tuple(words),
        env,
        place,
        Container(image) if image else None,
        cards=cards_of(main.get("resources")),
        nodes=max(1, (data or 1) // local) if local is not None else 1,
    ).with_notes(*notes)
