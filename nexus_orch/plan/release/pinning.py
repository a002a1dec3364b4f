"""Pinned host memory as torch gives it out, and what torch is told of it: the adapter sets what is planned here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from nexus_orch.releases.allocator import TORCH_THAT_PINS_EXACTLY, asks_for_exact_torch, resets_allocator
from nexus_orch.types import KIB, MIB, EngineFacts

ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Where torch reads the options of its allocators, the old name and the one that torch 2.9 brought."""

MAX_CACHED_MIB = 16
_OPTION = "pinned_max_cached_size_mb"
EXACTLY = f"{_OPTION}:{MAX_CACHED_MIB}"
"""aten/src/ATen/core/CachingHostAllocator.h of torch 2.13 and 2.14: what is larger is neither rounded up to a power of
two nor kept when it is freed. torch 2.13 on an H200 (bench/hybrid/pinned.py, 24 tensors): 6.79 GB of 270 MiB tensors
take 6.79 GB and leave 3 MB, copied from at 55.3 GB/s; without it 12.89 GB, all of which stay, at 54.8 GB/s. The smaller
ones stay rounded: torch 2.13 could hand out too small a block where blocks that are kept are not
(pytorch/pytorch#192722)."""

EXPANDABLE = "expandable_segments:True"
_LAYOUT_IS_FIXED = ("--enable-sleep-mode", "--enable-cumem-allocator", "--data-parallel-size")
"""Options that do not go with expandable segments: vLLM's own memory pool (device_allocator/cumem.py asserts it before
0.22), and ranks that share graph buffers."""
CONNECTORS = ("--kv-transfer-config", "--kv-offloading-size")

HOST_PAGE_BYTES = 4 * KIB
PAGE_ENTRY_BYTES = 8
"""What a GPU's page table holds for each page of host memory that it can reach."""


@dataclass(frozen=True)
class Pinning:
    """How torch pins tensors: those of up to `max_cached_bytes` in powers of two that it keeps when they are freed,
    larger ones as they are."""

    max_cached_bytes: float = math.inf

    def pinned_bytes(self, size: int) -> int:
        """What pinning a tensor of `size` bytes takes (aten/src/ATen/core/CachingHostAllocator.h); in powers of two,
        832 MiB were seen on an H100 for the tensors of a layer of 444.5 MiB."""
        if size > self.max_cached_bytes or size <= 0:
            return size
        return max(HOST_PAGE_BYTES, 1 << (size - 1).bit_length())

    def kept_bytes(self, size: int) -> int:
        """What of it stays with torch when the tensor is freed."""
        return 0 if size > self.max_cached_bytes else self.pinned_bytes(size)

    def page_table_bytes(self, size: int) -> int:
        """Device memory that a pinned tensor of `size` bytes takes: the GPU's page tables map it.

        14 offloaded launches on H200 cards (vLLM 0.25.1, bench/data/hybrid_h200.json): what the engine finds taken
        outside PyTorch grows by 26 MiB for 13 GiB pinned and by 114 MiB for 57 GiB. A tensor smaller than its entry
        frees nothing.
        """
        return min(size, page_table_bytes(self.pinned_bytes(size)))


def page_table_bytes(pinned: int) -> int:
    """Device memory that maps so much pinned host memory."""
    return pinned // HOST_PAGE_BYTES * PAGE_ENTRY_BYTES


def choose_pinning(engine: EngineFacts, env: Mapping[str, str]) -> Pinning:
    """How weights are pinned under the user's `engine.env`, whose own options stand instead of ours."""
    if not can_pin_exactly(engine):
        return Pinning()
    told = [env[name] for name in ALLOCATOR_VARIABLES if name in env] or [EXACTLY]
    return Pinning(max(map(_find_max_cached, told)))


def grows_segments(
    engine: EngineFacts,
    env: Mapping[str, str],
    extra_args: Sequence[str],
    *,
    tensor_parallel: int,
    is_wsl: bool,
    has_connector: bool,
) -> bool:
    """Whether a run that keeps weights in host RAM has segments of the card's memory that grow: what the user says of
    the allocator stands, else they are asked for where they are sound and have an effect.

    With several tensor-parallel ranks vLLM's all-reduce cannot share such memory and dies (vllm-project/vllm#42609);
    WSL's driver does not offer it to all; a KV connector is refused with it.
    """
    given = [env[name] for name in ALLOCATOR_VARIABLES if name in env]
    if given:
        return EXPANDABLE in given[0]
    options = {word.partition("=")[0] for word in extra_args}
    stands_against = any(options & _names_of(engine, option) for option in (*_LAYOUT_IS_FIXED, *CONNECTORS))
    return not (resets_allocator(engine.version) or tensor_parallel > 1 or is_wsl or has_connector or stands_against)


def _names_of(engine: EngineFacts, option: str) -> set[str]:
    flag = engine.option(option)
    return {option} if flag is None else {flag.name, *flag.aliases}


def can_pin_exactly(engine: EngineFacts) -> bool:
    """Whether torch knows the option, which it refuses otherwise, and vLLM lets it be: of an engine that is installed
    by its torch, of an assumed one by the torch that the release asks for."""
    if resets_allocator(engine.version):
        return False
    if engine.source == "catalogue":
        return asks_for_exact_torch(engine.version)
    return engine.torch is not None and Version(engine.torch) >= TORCH_THAT_PINS_EXACTLY


def _find_max_cached(options: str) -> float:
    """The bytes up to which a value of the variable lets torch keep what is freed; its last word counts."""
    found = re.findall(rf"\b{_OPTION}\s*:\s*(\d+)", options)
    return int(found[-1]) * MIB if found else math.inf
