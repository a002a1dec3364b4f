"""Small real model folders: safetensors written byte by byte, as the format's description says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each tensor by its name."""

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "U8": 1}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
}
TENSORS: Tensors = {"model.embed_tokens.weight": ("BF16", (16, 8)), "lm_head.weight": ("BF16", (16, 8))}


def make_safetensors(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """A whole file with zeros as data."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return make_file(json.dumps(header).encode(), offset)


def make_file(header: bytes, data_bytes: int = 0) -> bytes:
    """A file with this header, right or wrong."""
    return len(header).to_bytes(8, "little") + header + bytes(data_bytes)


def write_model(folder: Path, config: Mapping[str, Any] | None = None, tensors: Tensors = TENSORS) -> Path:
    """A folder with config.json, one weight file and a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(make_safetensors(tensors))
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def write_shards(folder: Path, shards: Mapping[str, Tensors]) -> Path:
    """Weight files and the index that names them; other files of a model are left to the caller."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in shards.items():
        (folder / name).write_bytes(make_safetensors(tensors))
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
