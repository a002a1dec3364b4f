"""What a file is that starts no vLLM server: one true sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from nexus_orch.errors import ConfigError, Problem

_OTHERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("SGLang", re.compile(r"sglang\.launch_server|sglang serve|lmsysorg/sglang")),
    ("llama.cpp", re.compile(r"\bllama-server\b|llama_cpp\.server|ggml-org/llama\.cpp")),
    ("Ollama", re.compile(r"\bollama (?:serve|run)\b|ollama/ollama")),
    ("Text Generation Inference", re.compile(r"text-generation-launcher|text-generation-inference")),
    ("TensorRT-LLM", re.compile(r"\btrtllm-serve\b|tensorrt_llm")),
    ("LMDeploy", re.compile(r"\blmdeploy serve\b")),
    ("Triton", re.compile(r"\btritonserver\b")),
    ("KTransformers", re.compile(r"\bktransformers\b")),
    ("LocalAI", re.compile(r"localai/localai")),
    ("Aphrodite", re.compile(r"\baphrodite\b")),
)
_LANGUAGES = {
    ".nix": "a Nix file",
    ".py": "a Python program",
    ".ipynb": "a notebook",
    ".tf": "a Terraform file",
    ".hcl": "an HCL file",
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
_LIBRARY = re.compile(r"from vllm import|\bLLM\(|AsyncLLMEngine|\bvllm\.LLM\b")


def explain_nothing(text: str, name: str, what_is_read: str) -> ConfigError:
    """The error of a file in which no start of vLLM was found."""
    remedy = f"what is read: {what_is_read}"
    language = _LANGUAGES.get(PurePath(name).suffix.lower()) or _NAMES.get(PurePath(name).name.lower())
    if language is not None:
        way = "write the command itself: nexus import -- vllm serve MODEL ..."
        return _refused(f"{name} is {language}, which is not read", way)
    if _TEMPLATE.search(text):
        way = "render it first: helm template"
        return _refused(f"{name} is a template that starts no server before it is rendered", way)
    what = _instead(text)
    if what is None and _OPTIONS.search(text):
        way = "nexus import -- vllm serve MODEL, with its options"
        return _refused(f"{name} holds options of vLLM, and no command that starts it with a model", way)
    return _refused(f"{name} starts no vLLM server{what or ''}", remedy)


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
