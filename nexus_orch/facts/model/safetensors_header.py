"""The header of a safetensors file: names, types, shapes and sizes of its tensors, read without the weights.

A file is: 8 bytes with the header's length (little-endian), the header as JSON, then the tensors' bytes without gaps
(github.com/huggingface/safetensors, README "Format").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.types import TensorHeader

_MAX_HEADER_BYTES = 100_000_000
"""The format's own limit; a larger number means that the file is something else."""


def read_safetensors_header(file: Path) -> tuple[TensorHeader, ...]:
    """The tensors of one file. Raises ConfigError that names the file when it is cut off, damaged or unreadable."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            prefix = stream.read(8)
            if len(prefix) < 8:
                raise _damaged(file, f"it has only {size} bytes", size)
            header_bytes = int.from_bytes(prefix, "little")
            if header_bytes > min(_MAX_HEADER_BYTES, size - 8):
                raise _damaged(file, f"its header claims {header_bytes} bytes, the file has {size}", size)
            header = stream.read(header_bytes)
    except OSError as error:
        raise ConfigError(Problem(f"{file} cannot be read: {error.strerror or error}")) from error
    return _parse_header(header, size - 8 - header_bytes, file)


def _parse_header(header: bytes, data_bytes: int, file: Path) -> tuple[TensorHeader, ...]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, "its header is not JSON") from error
    if not isinstance(entries, dict):
        raise _damaged(file, "its header is not a JSON object")
    entries.pop("__metadata__", None)
    tensors = []
    end_of_data = 0
    for name, entry in entries.items():
        if not _is_entry(entry):
            raise _damaged(file, f"the entry of tensor {name[:80]!r} is wrong")
        begin, end = entry["data_offsets"]
        tensors.append(TensorHeader(name, entry["dtype"], tuple(entry["shape"]), bytes=end - begin))
        end_of_data = max(end_of_data, end)
    told = sum(tensor.bytes for tensor in tensors)
    if told > data_bytes:
        raise _damaged(file, f"it is cut off, only {data_bytes} of {told} bytes of tensors are there")
    if told < data_bytes or end_of_data != data_bytes:
        raise _damaged(file, f"its header tells of {told} bytes of tensors, the file holds {data_bytes}")
    return tuple(tensors)


def _is_entry(entry: Any) -> bool:
    """Whether this is a tensor's entry, such as {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str) or not _is_sizes(entry.get("shape")):
        return False
    offsets = entry.get("data_offsets")
    return _is_sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]


def _is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _damaged(file: Path, reason: str, size: int | None = None) -> ConfigError:
    if size is not None and size < 1024 and _is_lfs_pointer(file):
        reason = "it is a Git LFS pointer, not the weights"
    return ConfigError(
        Problem(
            f"{file} is not a whole safetensors file: {reason}",
            remedy="download this file again (broken downloads and `git clone` without Git LFS leave such files)",
        )
    )


def _is_lfs_pointer(file: Path) -> bool:
    return file.read_bytes().startswith(b"version https://git-lfs")
