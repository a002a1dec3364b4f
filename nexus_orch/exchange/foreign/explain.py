"""What a file is that starts no vLLM server: one true sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_OTHER_COMMANDS = re.compile(r"\bvllm (bench|chat|complete|run-batch|collect-env)\b")
_LIBRARY = re.compile(r"from vllm import|\bLLM\(|AsyncLLMEngine|\bvllm\.LLM\b")


def explain_nothing(text: str, name: str, what_is_read: str) -> ConfigError:
    """The error of a file in which no start of vLLM was found."""
    remedy = f"what is read: {what_is_read}"
    other = next((program for program, pattern in _OTHERS if pattern.search(text)), None)
    command = _OTHER_COMMANDS.search(text)
    if "{{" in text and re.search(r"\{\{-?\s*(?:\.|if|range|include|with|toYaml)", text):
        return _refused(
            f"{name} is a template that starts no server before it is rendered", "render it first: helm template"
        )
    if other is not None:
        return _refused(f"{name} starts no vLLM server: it starts {other}, which is another program", remedy)
    if command is not None:
        return _refused(f"{name} starts no vLLM server: `vllm {command[1]}` is another command of vLLM", remedy)
    if _LIBRARY.search(text):
        return _refused(f"{name} starts no vLLM server: it uses vLLM as a library of Python", remedy)
    return _refused(f"{name} starts no vLLM server", remedy)


def _refused(message: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(message, remedy=remedy))


def explain_server_file(document: Mapping[str, Any], name: str) -> ConfigError:
    """The error of a file for `vllm serve --config` that names no model."""
    options = ", ".join(list(document)[:4])
    return _refused(
        f"{name} holds options for `vllm serve --config` ({options}) and names no model",
        f"nexus import -- vllm serve MODEL --config {name}",
    )
