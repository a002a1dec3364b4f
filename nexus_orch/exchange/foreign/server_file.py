"""A file for `vllm serve --config`, and every other mapping whose keys are the names of vLLM's engine arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

SERVER_FILE_KEYS = frozenset(
    {
        *("model", "model-tag", "served-model-name", "max-model-len", "tensor-parallel-size", "max-num-seqs"),
        *(
            "kv-cache-dtype",
            "gpu-memory-utilization",
            "enable-prefix-caching",
            "max-num-batched-tokens",
            "enforce-eager",
        ),
        *("quantization", "pipeline-parallel-size", "data-parallel-size", "trust-remote-code", "enable-lora"),
        *("speculative-config", "tool-call-parser", "reasoning-parser", "chat-template", "cpu-offload-gb", "dtype"),
    }
)
"""Some of what stands in a file for `vllm serve --config`."""


_BOTH_WAYS = frozenset({"enable-chunked-prefill", "enable-prefix-caching"})
"""Switches that are on unless they are switched off; any other one that is false says what vLLM does by itself."""


_NOT_IN_SERVER_FILES = frozenset({"commands", "command", "args", "jobs", "steps", "run", "setup", "services", "script"})
"""Keys of files that hold commands: what stands beside them is not meant for vLLM."""


def is_server_file(document: Mapping[str, Any]) -> bool:
    is_other = not _NOT_IN_SERVER_FILES.isdisjoint(document) or isinstance(document.get("model"), (dict, list))
    return (
        not is_other
        and not SERVER_FILE_KEYS.isdisjoint(key.replace("_", "-") for key in document)
        and not any(isinstance(value, dict) and "model_id" in value for value in document.values())
    )


def words_of_arguments(content: Mapping[str, Any]) -> list[str]:
    """A mapping of vLLM's engine arguments, by whatever spelling of their names, as words of its command line."""
    words: list[str] = []
    for key, value in content.items():
        name = dashed(key)
        if value is True:
            words.append(f"--{name}")
        elif value is False:
            words += [f"--no-{name}"] if name in _BOTH_WAYS else []
        elif isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value)):
            words += [f"--{name}", json.dumps(value)]
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif value is not None and value != "":
            words += [f"--{name}", str(value)]
    return words


def dashed(name: str) -> str:
    """maxModelLen as max-model-len."""
    plain = name.replace("LoRA", "Lora")  # enableLoRA of the production stack
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", plain).replace("_", "-").lower()
