"""The catalogue of graphics cards: what is known of a card by its name, without having one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from nexus_orch import data
from nexus_orch.suggest import find_near
from nexus_orch.types import GIB, MIB, GpuFacts

GIGA = 1e9

_VENDOR_WORDS = {"nvidia", "geforce", "rtx", "tesla", "amd", "instinct", "radeon", "intel"}
_FILLER = _VENDOR_WORDS | {"gpu", "generation", "edition", "hbm2", "hbm2e", "hbm3", "hbm3e"}
"""Words of a card's name that people and drivers leave out."""
_SHORT_FORMS = {"s": "super", "tis": "tisuper"}
_MEMORY = re.compile(r"(?<![a-z0-9])(\d+)\s?(?:g|gb|gib)(?![a-z0-9])")
_WORD = re.compile(r"[a-z]+|\d+")
_SWITCHED = re.compile(r"SXM|GH200|H20$|B200|B300|GB\d00")
"""Cards whose NVLink the board or a switch brings, so that it joins all of them; others take a bridge to one more."""
_FORM_FACTOR = re.compile(r"pcie|sxm\d?|nvl")

_PCIE_3_LANE_BYTES_PER_SECOND = 15.75 * GIGA / 16
"""One lane of PCIe 3 after line coding; every generation doubles it."""
_PCIE_5_COPY_EFFICIENCY = 0.87
"""Share of the link's rate that a large copy from pinned memory reaches over PCIe 5 x16 (63 GB/s): 55.2 and 55.4 GB/s
were measured on two H200, and the prefetch offloader's speed on an H100 follows from 54.8."""
_COPY_EFFICIENCY = 0.8
"""The same for older links: bandwidth tests commonly report 12.5 and 25 GB/s for PCIe 3 and 4 x16. Not measured
for this project; `nexus calibrate --bus` measures a machine's own."""


@dataclass(frozen=True)
class CatalogueGpu:
    """One card of the catalogue. None where the catalogue does not know."""

    name: str
    vendor: str
    nvml_total_bytes: int
    """Memory as nvidia-smi shows it; the marketing figure for cards of other vendors."""
    total_bytes: int
    """Memory as CUDA shows it; `total_is_estimate` tells whether it was seen or is `estimate_cuda_total`."""
    total_is_estimate: bool
    memory_bandwidth_bytes_per_second: float | None
    host_bandwidth_bytes_per_second: float | None
    """Host to device, from pinned memory, in the slot that the card is made for."""
    compute_capability: tuple[int, int] | None
    """None for cards without CUDA."""
    supports_bf16: bool
    supports_fp8: bool
    supports_fp4: bool
    nvlink: bool
    """The card has NVLink, or a place for a bridge."""
    nvlink_is_bridge: bool
    fp16_flops: float | None
    names: tuple[str, ...] = ()
    """The name, the driver's name and further names that people use."""


def find_gpu(name: str, memory_mib: int | None = None) -> CatalogueGpu | None:
    """The card that this name means, None when it is unknown.

    Understands the driver's names ("NVIDIA H100 80GB HBM3"), marketing names ("RTX 4090") and short ones ("rtx4090",
    "a100_80g", "rtx4070tis"). Where cards share a name, a memory size inside the name decides ("rtx4060ti_16g"), then
    `memory_mib`, and without either the smallest card is meant, so that a plan is rather too careful.
    """
    wanted = _parse_name(name)
    cards = [card for card in catalogue() if wanted in {_parse_name(known) for known in card.names}]
    if not cards:
        cards = [card for card in catalogue() if _is_called(card, wanted)]
    if not cards:
        return None
    if memory_mib is not None:
        return min(cards, key=lambda card: abs(card.nvml_total_bytes - memory_mib * MIB))
    return min(cards, key=lambda card: card.nvml_total_bytes)


def describe_card(card: CatalogueGpu) -> GpuFacts:
    """The facts of an empty card, as the catalogue knows them."""
    return GpuFacts(
        index=0,
        name=card.name,
        total_bytes=card.total_bytes,
        free_bytes=card.total_bytes,
        source="catalogue",
        memory_bandwidth_bytes_per_second=card.memory_bandwidth_bytes_per_second,
        host_bandwidth_bytes_per_second=card.host_bandwidth_bytes_per_second,
        compute_capability=card.compute_capability,
        supports_bf16=card.supports_bf16,
        supports_fp8=card.supports_fp8,
        nvlink=None if card.nvlink_is_bridge else card.nvlink,
        nvlink_is_bridge=card.nvlink_is_bridge,
        fp16_flops=card.fp16_flops,
    )


def nearest_gpus(name: str, count: int = 3) -> tuple[str, ...]:
    """Names of the catalogue that look like an unknown one, the most similar first."""
    by_words = {_parse_name(known).words: card.name for card in catalogue() for known in card.names}
    near = find_near(_parse_name(name).words, by_words, count)
    return tuple(dict.fromkeys(by_words[words] for words in near))


def is_same_card(name: str, other: str) -> bool:
    """Whether two names mean the same card, its form (PCIe, SXM, NVL) and its memory aside."""
    return _without_form(name) == _without_form(other)


def estimate_cuda_total(nvml_total_bytes: int) -> int:
    """CUDA's total from NVML's, where nobody has written it down.

    The driver keeps 0.4 GiB and 0.2 % of the memory for itself: a fit to the 29 cards of the catalogue with both
    figures (15 to 278 GiB), within 0.2 GiB for all but one. A ratio fits worse: it is 0.971 on a T4, 0.997 on a B200.
    """
    return max(nvml_total_bytes - int(0.4 * GIB + 0.002 * nvml_total_bytes), 0)


def pcie_bandwidth(generation: int, lanes: int) -> float:
    """What a copy from pinned memory to the card reaches over this link, in bytes per second."""
    efficiency = _PCIE_5_COPY_EFFICIENCY if generation >= 5 else _COPY_EFFICIENCY
    return float(_PCIE_3_LANE_BYTES_PER_SECOND * 2 ** (generation - 3) * lanes * efficiency)


@cache
def catalogue() -> tuple[CatalogueGpu, ...]:
    """All cards, in the order of the file `gpus.json`."""
    return tuple(_make_gpu(record) for record in data.load("gpus.json")["gpus"])


def _make_gpu(record: Mapping[str, Any]) -> CatalogueGpu:
    nvml_total_mib = record.get("nvml_total_mib")
    nvml_total_bytes = record["memory_gb"] * GIB if nvml_total_mib is None else nvml_total_mib * MIB
    cuda_total_gib = record.get("cuda_total_gib")
    generation, lanes = record.get("pcie_gen"), record.get("pcie_lanes")
    capability = re.fullmatch(r"(\d+)\.(\d+)", record.get("compute_capability", ""))
    tflops = record.get("fp16_dense_tflops")
    return CatalogueGpu(
        name=record["name"],
        vendor=record["vendor"],
        nvml_total_bytes=nvml_total_bytes,
        total_bytes=estimate_cuda_total(nvml_total_bytes) if cuda_total_gib is None else int(cuda_total_gib * GIB),
        total_is_estimate=cuda_total_gib is None,
        memory_bandwidth_bytes_per_second=record["memory_bandwidth_gbs"] * GIGA,
        host_bandwidth_bytes_per_second=pcie_bandwidth(generation, lanes) if generation and lanes else None,
        compute_capability=(int(capability[1]), int(capability[2])) if capability else None,
        supports_bf16=record["bf16"],
        supports_fp8=record["fp8"],
        supports_fp4=record["fp4"],
        nvlink=record["nvlink"],
        nvlink_is_bridge=record["nvlink"] and _SWITCHED.search(record["name"]) is None,
        fp16_flops=None if tflops is None else tflops * 1e12,
        names=tuple(filter(None, (record["name"], record.get("nvml_name"), *record.get("aliases", ())))),
    )


@dataclass(frozen=True)
class _Name:
    words: str
    memory_gb: int | None


@cache
def _parse_name(name: str) -> _Name:
    """A name without filler words, spelling and memory size: "NVIDIA GeForce RTX 4060 Ti 16GB" is ("4060ti", 16)."""
    text = name.lower()
    memory = _MEMORY.search(text)
    if memory:
        text = text[: memory.start()] + " " + text[memory.end() :]
    parts = [part for part in re.split(r"[^a-z0-9]+", text) if part not in _FILLER]
    words = [word for part in parts for word in _WORD.findall(part) if word not in _FILLER]
    joined = "".join(_SHORT_FORMS.get(word, word) for word in words)
    return _Name(joined, int(memory[1]) if memory else None)


def _without_form(name: str) -> str:
    return _FORM_FACTOR.sub("", _parse_name(name).words)


def _is_called(card: CatalogueGpu, wanted: _Name) -> bool:
    """Whether the words agree, and the memory inside the wanted name (in GB, marketing or driver's) does not differ."""
    if wanted.words not in {_parse_name(known).words for known in card.names}:
        return False
    return wanted.memory_gb is None or abs(wanted.memory_gb * GIB / card.nvml_total_bytes - 1) < 0.1
