"""Random bfloat16 weights of a shipped model profile's architecture, as a checkpoint that vLLM loads.

Speed and memory do not depend on the values. A block of random numbers is repeated, so that writing is as fast as the
disk; it is never zeros, which a card multiplies faster.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

SHARD_BYTES = 4 * 10**9
BLOCK_ELEMENTS = 1 << 25
_SIGNS = bytes(0x3C if byte % 2 else 0xBC for byte in range(256))
"""The upper byte of a bfloat16: plus or minus 1/128 to 1/64."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Tensor = tuple[str, tuple[int, ...]]


def write_model(profile: Path, folder: Path, tokenizer: Path) -> int:
    """Write config.json, the tokenizer's files and shards of weights; the bytes of the weights."""
    config = yaml.safe_load(profile.read_text(encoding="utf-8"))["config"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    shards = list(_shard(_tensors(config)))
    block = _random_block()
    names = [f"model-{index:05d}-of-{len(shards):05d}.safetensors" for index in range(1, len(shards) + 1)]
    with ThreadPoolExecutor(8) as pool:
        sizes = list(
            pool.map(lambda pair: _write_shard(folder / pair[0], pair[1], block), zip(names, shards, strict=True))
        )
    index = {name: file for file, shard in zip(names, shards, strict=True) for name, _ in shard}
    content = {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")
    return sum(sizes)


def _tensors(config: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors of Qwen2, Qwen3, Llama and Qwen3-MoE checkpoints, by their names on the hub."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{prefix}.self_attn.{name}.weight", (rows, hidden)
            if config["model_type"] == "qwen2":
                yield f"{prefix}.self_attn.{name}.bias", (rows,)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, queries)
        if config["model_type"].startswith("qwen3"):
            yield f"{prefix}.self_attn.q_norm.weight", (head,)
            yield f"{prefix}.self_attn.k_norm.weight", (head,)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield from _feed_forward(config, prefix, hidden)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (config["vocab_size"], hidden)


def _feed_forward(config: Mapping[str, Any], prefix: str, hidden: int) -> Iterator[Tensor]:
    experts = config.get("num_experts", 0)
    width = config["moe_intermediate_size"] if experts else config["intermediate_size"]
    if experts:
        yield f"{prefix}.mlp.gate.weight", (experts, hidden)
    for name in [f"experts.{expert}." for expert in range(experts)] or [""]:
        yield f"{prefix}.mlp.{name}gate_proj.weight", (width, hidden)
        yield f"{prefix}.mlp.{name}up_proj.weight", (width, hidden)
        yield f"{prefix}.mlp.{name}down_proj.weight", (hidden, width)


def _shard(tensors: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    shard: list[Tensor] = []
    size = 0
    for name, shape in tensors:
        shard.append((name, shape))
        size += 2 * math.prod(shape)
        if size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _random_block() -> memoryview:
    """bfloat16 numbers of random sign and mantissa, all of one size."""
    block = bytearray(2 * BLOCK_ELEMENTS)
    block[0::2] = random.randbytes(BLOCK_ELEMENTS)
    block[1::2] = random.randbytes(BLOCK_ELEMENTS).translate(_SIGNS)
    return memoryview(block)


def _write_shard(path: Path, tensors: list[Tensor], block: memoryview) -> int:
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in tensors:
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left = offset
        while left:
            left -= file.write(block[: min(left, len(block))])
    return offset


if __name__ == "__main__":
    written = write_model(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(f"{sys.argv[2]}: {written / 1e9:.1f} GB\n")
