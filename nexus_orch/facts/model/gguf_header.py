"""The header of a GGUF file: its metadata and its tensors, read without the weights.

The format (github.com/ggml-org/ggml, docs/gguf.md), little-endian: the magic "GGUF", a version (2 or 3), the numbers of
tensors and of metadata entries, the entries, the tensors' names, shapes, types and offsets, then the aligned data.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from nexus_orch.errors import ConfigError, Problem

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 1_000_000
"""More tensors, entries, or characters of a name than any model has: the file is damaged."""
LONGEST_KEPT = 4096
"""Numeric arrays up to this length are kept; of all others (the tokenizer's) only the length."""
DEFAULT_ALIGNMENT = 32
LARGEST_ALIGNMENT = 1 << 20

BLOCKS: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""Name, weights in a block and bytes of a block, by the number of the type (ggml.h and ggml-common.h of ggml)."""

_NUMBERS: Mapping[int, str] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufTensor:
    """One tensor. `shape` has the outputs first, as in other formats: the file lists the innermost size first."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class GgufArray:
    """An array of which only the length is kept."""

    length: int


@dataclass(frozen=True)
class GgufHeader:
    metadata: Mapping[str, Any]
    """Numbers, text and truth values as they are; short arrays of numbers as tuples, all others as `GgufArray`."""
    tensors: tuple[GgufTensor, ...]

    @property
    def total_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.tensors)


def read_gguf_header(file: Path) -> GgufHeader:
    """Header of one file. Raises ConfigError that names the file when it is cut off, damaged or unreadable.

    The file is mapped, so that only the pages of the header are read, and no size that it claims is allocated.
    """
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            if size < 24:
                raise _damaged(file, f"it has only {size} bytes")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _parse(content, size, file)
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(f"{file} cannot be read: {error}")) from error


def _parse(content: mmap.mmap, size: int, file: Path) -> GgufHeader:
    if content[:4] != MAGIC:
        raise _damaged(file, "it does not begin with GGUF")
    cursor = _Cursor(content, 4)
    try:
        version = cursor.number("<I")
        if version not in VERSIONS:
            raise _damaged(file, f"its format has version {version}, readable are 2 and 3")
        tensor_count, entry_count = cursor.number("<Q"), cursor.number("<Q")
        if max(tensor_count, entry_count) > MOST_ENTRIES:
            raise _damaged(file, f"it claims {tensor_count} tensors and {entry_count} entries of metadata")
        metadata = dict(_read_entry(cursor) for _ in range(entry_count))
        entries = [_read_tensor(cursor) for _ in range(tensor_count)]
    except (struct.error, UnicodeDecodeError, _WrongError) as error:
        raise _damaged(file, f"its header is cut off or wrong ({error})") from error
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= LARGEST_ALIGNMENT:
        raise _damaged(file, f"its alignment is {alignment!r}")
    start = -(-cursor.place // alignment) * alignment
    end = start + max((offset + tensor.bytes for tensor, offset in entries), default=0)
    if end > size:
        raise _damaged(file, f"it is cut off, {size} of {end} bytes are there")
    return GgufHeader(metadata, tuple(tensor for tensor, _ in entries))


class _WrongError(Exception):
    """What stands in a header cannot be."""


class _Cursor:
    """A place in a mapped file. Reading beyond its end raises struct.error."""

    def __init__(self, content: mmap.mmap, place: int) -> None:
        self.content = content
        self.place = place

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.content, self.place)
        self.place += struct.calcsize(form)
        return value

    def skip(self, length: int) -> None:
        self.place += length
        if self.place > len(self.content):
            raise _WrongError(f"something of {length} bytes reaches beyond its end")

    def text(self) -> str:
        length = self.number("<Q")
        start = self.place
        self.skip(length)
        return self.content[start : self.place].decode("utf-8")

    def skip_text(self) -> None:
        self.skip(self.number("<Q"))


def _read_entry(cursor: _Cursor) -> tuple[str, Any]:
    key = cursor.text()
    if len(key) > MOST_ENTRIES:
        raise _WrongError("a key is too long")
    return key, _read_value(cursor, cursor.number("<I"))


def _read_value(cursor: _Cursor, kind: int) -> Any:
    if kind in _NUMBERS:
        return cursor.number(_NUMBERS[kind])
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        return _read_array(cursor)
    raise _WrongError(f"there is no type {kind} of metadata")


def _read_array(cursor: _Cursor) -> tuple[Any, ...] | GgufArray:
    kind, length = cursor.number("<I"), cursor.number("<Q")
    if kind in _NUMBERS:
        form = _NUMBERS[kind]
        if length <= LONGEST_KEPT:
            return tuple(cursor.number(form) for _ in range(length))
        cursor.skip(length * struct.calcsize(form))
        return GgufArray(length)
    skip: Callable[[], object] | None = {_STRING: cursor.skip_text}.get(kind)
    if skip is None:
        raise _WrongError(f"there is no array of type {kind}")
    for _ in range(length):  # ends at the end of the file at the latest: every item takes 8 bytes
        skip()
    return GgufArray(length)


def _read_tensor(cursor: _Cursor) -> tuple[GgufTensor, int]:
    """A tensor and where its data begins, from the begin of all data."""
    name = cursor.text()
    dimensions = cursor.number("<I")
    if dimensions > 8:
        raise _WrongError(f"the tensor {name[:80]!r} has {dimensions} dimensions")
    sizes = [cursor.number("<Q") for _ in range(dimensions)]
    kind, offset = cursor.number("<I"), cursor.number("<Q")
    if kind not in BLOCKS:
        raise _WrongError(f"the tensor {name[:80]!r} is of the unknown type {kind}")
    type_name, block, block_bytes = BLOCKS[kind]
    elements = prod(sizes)
    if elements % block:
        raise _WrongError(f"the tensor {name[:80]!r} is no multiple of its blocks")
    return GgufTensor(name, type_name, tuple(reversed(sizes)), elements // block * block_bytes), offset


def _damaged(file: Path, reason: str) -> ConfigError:
    return ConfigError(
        Problem(
            f"{file} is not a whole GGUF file: {reason}",
            remedy="download this file again (broken downloads and `git clone` without Git LFS leave such files)",
        )
    )
