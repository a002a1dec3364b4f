"""What a file is that starts no vLLM server: one true sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from nexus_orch.errors import ConfigError, Problem

_OTHERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("SGLang", re.compile(r"sglang\.launch_server|sglang serve|lmsysorg/sglang")),
    ("llama.cpp", re.compile(r"(?<![\w-])llama-server\b|llama_cpp\.server|ggml-org/llama\.cpp")),
    ("Ollama", re.compile(r"\bollama (?:serve|run)\b|ollama/ollama")),
    ("Text Generation Inference", re.compile(r"text-generation-launcher|text-generation-inference")),
    ("TensorRT-LLM", re.compile(r"\btrtllm-serve\b|tensorrt_llm")),
    ("LMDeploy", re.compile(r"\blmdeploy serve\b")),
    ("Triton", re.compile(r"\btritonserver\b")),
    ("KTransformers", re.compile(r"\bktransformers\b")),
    ("LocalAI", re.compile(r"localai/localai")),
    ("Aphrodite", re.compile(r"\baphrodite\b")),
)
_LAUNCHERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("TRL's own server, which uses vLLM inside", re.compile(r"\btrl vllm-serve\b|axolotl vllm-serve")),
    ("an NVIDIA NIM container, which chooses the model's build and the engine itself", re.compile(r"nvcr\.io/nim/")),
    ("NVIDIA Dynamo, which starts vLLM inside", re.compile(r"\bdynamo\.vllm\b|DynamoGraphDeployment|\bdynamo-run\b")),
    ("RunPod's worker, whose variables are vLLM's options", re.compile(r"runpod/worker-(?:v1-)?vllm")),
    ("llm-d's model service", re.compile(r"^modelArtifacts:", re.MULTILINE)),
    ("BentoML", re.compile(r"\bbentoml serve\b|^service: .*:\w+$", re.MULTILINE)),
    ("Xinference", re.compile(r"\bxinference\b")),
    ("DeepSpeed", re.compile(r"\bdeepspeed\b")),
)
"""Programs and operators that start vLLM, or something like it, in a way of their own."""
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("an Ansible playbook or role", re.compile(r"^\s*-?\s*(?:hosts|become|tasks):|docker_container:", re.MULTILINE)),
    ("a Nomad job", re.compile(r"^\s*job\s+\"[^\"]+\"\s*\{", re.MULTILINE)),
)
_LANGUAGES = {
    ".nix": "a Nix file",
    ".py": "a Python program",
    ".ipynb": "a notebook",
    ".tf": "a Terraform file",
    ".hcl": "an HCL file",
    ".nomad": "a Nomad job",
    ".rb": "a Ruby program",
    ".js": "a JavaScript program",
    ".ts": "a TypeScript program",
    ".go": "a Go program",
    ".toml": "a TOML file",
    ".ini": "an INI file",
    ".j2": "a Jinja template",
    ".jinja": "a Jinja template",
    ".tpl": "a template",
    ".fish": "a script for the fish shell",
}
_NAMES = {"jenkinsfile": "a Jenkinsfile"}
_OTHER_COMMANDS = re.compile(r"\bvllm (bench|chat|complete|run-batch|collect-env)\b")
_OPTIONS = re.compile(
    r"--(?:tensor-parallel-size|max-model-len|gpu-memory-utilization|max-num-seqs|kv-cache-dtype|kv-transfer-config|"
    r"speculative-config|max-num-batched-tokens)\b"
)
_TEMPLATE = re.compile(r"\{\{-?\s*(?:\.|if|range|include|with|toYaml)")
_JINJA = re.compile(r"\{%-?\s*(?:extends|block|if|for|set|include)\b")
_BUILT = re.compile(r"^\s+build:", re.MULTILINE)
_BY_HAND = "nexus import -- vllm serve MODEL, with its options"
_LIBRARY = re.compile(r"from vllm import|\bLLM\(|AsyncLLMEngine|\bvllm\.LLM\b")


def explain_nothing(text: str, name: str, what_is_read: str) -> ConfigError:
    """The error of a file in which no start of vLLM was found."""
    language = _LANGUAGES.get(PurePath(name).suffix.lower()) or _NAMES.get(PurePath(name).name.lower())
    launcher = next((program for program, pattern in _LAUNCHERS if pattern.search(text)), None)
    kind = next((kind for kind, pattern in _KINDS if pattern.search(text)), None)
    what = _instead(text)
    if language is not None:
        said = (
            f"{name} is {language}, which is not read",
            "write the command itself: nexus import -- vllm serve MODEL ...",
        )
    elif _TEMPLATE.search(text):
        said = f"{name} is a template that starts no server before it is rendered", "render it first: helm template"
    elif _JINJA.search(text):
        said = f"{name} is a Jinja template that starts no server before it is rendered", "render it first"
    elif launcher is not None:
        said = f"{name} starts {launcher}", f"what it passes to vLLM can be written by hand: {_BY_HAND}"
    elif kind is not None:
        said = f"{name} is {kind}, in which no start of vLLM was found", f"write the command itself: {_BY_HAND}"
    elif _BUILT.search(text) and "services:" in text:
        how = "a service is built from a Dockerfile, which holds the command"
        said = f"{name} starts no vLLM server: {how}", f"name the Dockerfile, or write the command: {_BY_HAND}"
    elif what is None and _OPTIONS.search(text):
        said = f"{name} holds options of vLLM, and no start of it with a model was found", _BY_HAND
    else:
        said = f"{name} starts no vLLM server{what or ''}", f"what is read: {what_is_read}"
    return _refused(*said)


def _instead(text: str) -> str | None:
    """What the file does instead, as the end of a sentence."""
    other = next((program for program, pattern in _OTHERS if pattern.search(text)), None)
    command = _OTHER_COMMANDS.search(text)
    if other is not None:
        return f": it starts {other}, which is another program"
    if command is not None:
        return f": `vllm {command[1]}` is another command of vLLM"
    return ": it uses vLLM as a library of Python" if _LIBRARY.search(text) else None


def _refused(message: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(message, remedy=remedy))


def explain_server_file(document: Mapping[str, Any], name: str) -> ConfigError:
    """The error of a file for `vllm serve --config` that names no model."""
    options = ", ".join(list(document)[:4])
    return _refused(
        f"{name} holds options for `vllm serve --config` ({options}) and names no model",
        f"nexus import -- vllm serve MODEL --config {name}",
    )
