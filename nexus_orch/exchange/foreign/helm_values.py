"""Values for the Helm chart of the vLLM production stack: `servingEngineSpec.modelSpec`.

Source: helm/values.yaml and helm/templates/deployment-vllm-multi.yaml of vllm-project/production-stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, mappings, text_of, texts
from nexus_orch.exchange.foreign.kubernetes import parse_environment
from nexus_orch.exchange.foreign.server_file import words_of_arguments
from nexus_orch.exchange.start import Beside, Container, Start

_NO_OPTIONS = frozenset({"extraArgs", "v0", "v1"})
_KNOWN = frozenset(
    {
        *("name", "repository", "tag", "modelURL", "requestGPU", "vllmConfig", "env", "replicaCount", "requestCPU"),
        *("requestMemory", "shmSize", "annotations", "podAnnotations", "labels", "imagePullPolicy", "runtimeClassName"),
        *("requestGPUType", "limitCPU", "limitMemory", "nodeSelectorTerms", "hf_token", "enableLoRA", "chatTemplate"),
    }
)


def is_stack_values(document: Mapping[str, Any]) -> bool:
    return "modelSpec" in mapping_of(document.get("servingEngineSpec"))


def parse_stack_values(document: Mapping[str, Any], beside: Beside) -> list[Start]:
    """The models of the chart's serving engines."""
    return [_model(spec, beside) for spec in mappings(mapping_of(document["servingEngineSpec"]).get("modelSpec"))]


def _model(spec: Mapping[str, Any], beside: Beside) -> Start:
    config = mapping_of(spec.get("vllmConfig"))
    words = [text_of(spec.get("modelURL"))] if text_of(spec.get("modelURL")) else []
    words += words_of_arguments({name: value for name, value in config.items() if name not in _NO_OPTIONS})
    words += texts(config.get("extraArgs"))
    env = parse_environment(spec.get("env"), beside)
    cache = mapping_of(spec.get("lmcacheConfig"))
    if text_of(cache.get("cudaVisibleDevices")):
        env["CUDA_VISIBLE_DEVICES"] = text_of(cache.get("cudaVisibleDevices"))
    for key, engine in (("v0", "0"), ("v1", "1")):
        if config.get(key) is not None:
            env["VLLM_USE_V1"] = engine if config[key] in (1, "1", True) else str(1 - int(engine))
    image = f"{text_of(spec.get('repository'))}:{text_of(spec.get('tag'))}".strip(":")
    notes = [f"{name} of the chart's values" for name in spec if name not in _KNOWN]
    if cache.get("nixlBufferDevice") == "cuda":
        notes.append(f"a transfer buffer of {text_of(cache.get('nixlBufferSize'))} bytes on each card: not counted")
    head = mapping_of(mapping_of(spec.get("raySpec")).get("headNode"))
    cards, more = count_of(spec.get("requestGPU")), count_of(head.get("requestGPU"))
    return Start(
        tuple(words),
        env,
        f"modelSpec {text_of(spec.get('name'))}".strip(),
        Container(image) if image else None,
        cards=cards if more is None else (cards or 0) + more,
    ).with_notes(*notes)


def stack_runtime(place: str, spec: Mapping[str, Any], beside: Beside) -> Start:
    """The server of a VLLMRuntime, the resource of the stack's operator.

    Source: operator/api/v1alpha1/vllmruntime_types.go of vllm-project/production-stack.
    """
    model, config = dict(mapping_of(spec.get("model"))), dict(mapping_of(spec.get("vllmConfig")))
    path = text_of(model.pop("modelURL", ""))
    version, listed, extra = config.pop("v1", None), config.pop("env", None), config.pop("extraArgs", None)
    model["enableAutoToolChoice"] = model.pop("enableTool", False)
    model.pop("hfTokenSecret", None)
    model.pop("hfTokenName", None)
    words = [*([path] if path else []), *words_of_arguments({**model, **config}), *texts(extra)]
    env = parse_environment(listed, beside)
    if version is not None:
        env["VLLM_USE_V1"] = "1" if version in (1, "1", True) else "0"
    deployment = mapping_of(spec.get("deploymentConfig")) or spec
    image = mapping_of(deployment.get("image"))
    name = "/".join(part for part in (text_of(image.get("registry")), text_of(image.get("name"))) if part)
    cache = mapping_of(spec.get("lmCacheConfig"))
    notes = []
    if cache.get("enabled") is True:
        size = text_of(cache.get("cpuOffloadingBufferSize"))
        notes.append(f"LMCache with {size or 'its own'} GB of host RAM for keys and values: not counted")
    replicas = count_of(deployment.get("replicas")) or 1
    if replicas > 1:
        notes.append(f"{replicas} replicas: each is a server of its own; one is imported")
    start = Start(
        tuple(words),
        env,
        place,
        Container(name.removeprefix("docker.io/")) if name else None,
        cards=count_of(mapping_of(deployment.get("resources")).get("gpu")),
    )
    return start.with_notes(*notes)
