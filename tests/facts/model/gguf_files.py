"""Small real GGUF files, written byte by byte as the format's description says."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from nexus_orch.facts.model.gguf_header import BLOCKS

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape (outputs first) of each tensor by its name."""

_TYPES = {name: number for number, (name, _, _) in BLOCKS.items()}
LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "small",
    "llama.block_count": 2,
    "llama.context_length": 2048,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.rope.dimension_count": 64,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "ö"],
}


def llama_tensors(
    prefix: str = "blk", layers: int = 2, *, tied: bool = False
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of that model: Q4_K matrices, Q6_K where llama.cpp puts it, float norms."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {"token_embd.weight": ("Q4_K", (512, 256))}
    for layer in range(layers):
        for name, kind, shape in (
            ("attn_norm", "F32", (256,)),
            ("attn_q", "Q4_K", (256, 256)),
            ("attn_k", "Q4_K", (128, 256)),
            ("attn_v", "Q6_K", (128, 256)),
            ("attn_output", "Q4_K", (256, 256)),
            ("ffn_norm", "F32", (256,)),
            ("ffn_gate", "Q4_K", (512, 256)),
            ("ffn_up", "Q4_K", (512, 256)),
            ("ffn_down", "Q6_K", (256, 512)),
        ):
            found[f"{prefix}.{layer}.{name}.weight"] = (kind, shape)
    found["output_norm.weight"] = ("F32", (256,))
    if not tied:
        found["output.weight"] = ("Q6_K", (512, 256))
    return found


def tensor_bytes(tensors: Tensors) -> int:
    return sum(_size(kind, shape) for kind, shape in tensors.values())


def make_gguf(metadata: Mapping[str, Any], tensors: Tensors, *, version: int = 3, alignment: int = 32) -> bytes:
    """A whole file with zeros as data."""
    written = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    written += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    data = 0
    for name, (kind, shape) in tensors.items():
        sizes = b"".join(struct.pack("<Q", size) for size in reversed(shape))
        written += _text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", _TYPES[kind], data)
        data += -(-_size(kind, shape) // alignment) * alignment
    written += bytes(-len(written) % alignment)
    return written + bytes(data)


def _size(kind: str, shape: Sequence[int]) -> int:
    _, block, size = BLOCKS[_TYPES[kind]]
    return prod(shape) // block * size


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    """Type and value: whole numbers as uint32, lists by their first item."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    items = [_value(item) for item in value]
    kind = items[0][:4]
    return struct.pack("<I", 9) + kind + struct.pack("<Q", len(items)) + b"".join(item[4:] for item in items)
