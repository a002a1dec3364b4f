"""The card catalogue: every way in which people and drivers write a card's name finds the right one."""

from __future__ import annotations

import pytest

from nexus_orch.facts.machine.catalogue import (
    CatalogueGpu,
    catalogue,
    estimate_cuda_total,
    find_gpu,
    is_same_card,
    nearest_gpus,
    pcie_bandwidth,
)
from nexus_orch.types import GIB, MIB


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("rtx4090", "GeForce RTX 4090"),
        ("RTX 4090", "GeForce RTX 4090"),
        ("4090", "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
        ("GeForce RTX 4090", "GeForce RTX 4090"),  # drivers before 465 leave the vendor out
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "GeForce RTX 4090 Laptop"),
        ("rtx4070tis", "GeForce RTX 4070 Ti SUPER"),
        ("rtx4080s", "GeForce RTX 4080 SUPER"),
        ("rtx4060ti_16g", "GeForce RTX 4060 Ti 16GB"),
        ("rtx3060_12g", "GeForce RTX 3060 12GB"),
        ("rtx_a6000", "RTX A6000"),
        ("rtx6000ada", "RTX 6000 Ada"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("rtx pro 6000", "RTX PRO 6000 Blackwell Workstation"),
        ("a10g", "A10G"),  # the g is no memory size
        ("l40s", "L40S"),
        ("L40", "L40"),
        ("t4", "Tesla T4"),
        ("v100_32g", "Tesla V100 SXM2 32GB"),
        ("a100_80g", "A100 SXM4 80GB"),
        ("A100-SXM4-40GB", "A100 SXM4 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("H100 80GB HBM3", "H100 SXM"),
        ("h100", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("h200", "H200 SXM"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),  # 480 GB is the memory of its processor
        ("mi300x", "Instinct MI300X"),
    ],
)
def test_finds_a_card_by_what_people_and_drivers_write(written: str, meant: str) -> None:
    assert _found(written).name == meant


@pytest.mark.parametrize("card", catalogue(), ids=lambda card: card.name)
def test_every_card_is_found_by_each_of_its_names_and_its_memory(card: CatalogueGpu) -> None:
    memory_mib = card.nvml_total_bytes // MIB
    assert [find_gpu(name, memory_mib) for name in card.names] == [card] * len(card.names)
    assert find_gpu(card.name) == card


def test_memory_decides_between_cards_of_one_name() -> None:
    assert _found("NVIDIA GeForce RTX 3080", 10240).name == "GeForce RTX 3080 10GB"
    assert _found("NVIDIA GeForce RTX 3080", 12288).name == "GeForce RTX 3080 12GB"
    assert _found("a100", 81920).name == "A100 SXM4 80GB"


def test_a_name_that_fits_several_cards_means_the_smallest() -> None:
    assert _found("rtx4060ti").name == "GeForce RTX 4060 Ti 8GB"


@pytest.mark.parametrize("written", ["rtx4190", "rtx3090_48g", "RTX 6000", "banana", "", "gpu"])
def test_an_unknown_card_is_none(written: str) -> None:
    assert find_gpu(written) is None


def test_nearest_names_for_a_mistyped_card() -> None:
    assert nearest_gpus("rtx4190")[0] == "GeForce RTX 4090"
    assert "A100 SXM4 80GB" in nearest_gpus("a100smx")
    assert nearest_gpus("banana") == ()


def test_the_same_card_in_another_form_or_size_is_the_same() -> None:
    assert is_same_card("a100_80g", "NVIDIA A100 80GB PCIe")
    assert is_same_card("h100", "NVIDIA H100 NVL")
    assert not is_same_card("rtx4090", "NVIDIA GeForce RTX 4090 Laptop GPU")
    assert not is_same_card("rtx4070ti", "NVIDIA GeForce RTX 4070 Ti SUPER")


def test_the_estimate_of_cuda_memory_agrees_with_cards_where_it_was_seen() -> None:
    seen = [card for card in catalogue() if card.vendor == "nvidia" and not card.total_is_estimate]
    misses = {card.name: (estimate_cuda_total(card.nvml_total_bytes) - card.total_bytes) / GIB for card in seen}
    for name in ("GB10 / DGX Spark", "Jetson AGX Thor"):  # they have no memory of their own
        del misses[name]
    assert len(misses) > 25
    assert max(map(abs, misses.values())) < 0.35
    assert sum(abs(miss) < 0.2 for miss in misses.values()) >= len(misses) - 1


def test_the_bus_is_slower_than_its_link() -> None:
    assert pcie_bandwidth(5, 16) == pytest.approx(55.3e9, rel=0.01)  # measured on two H200: 55.2 and 55.4
    assert pcie_bandwidth(4, 8) == pytest.approx(pcie_bandwidth(3, 16))
    assert _found("rtx4090").host_bandwidth_bytes_per_second == pcie_bandwidth(4, 16)


def test_figures_are_in_the_units_of_their_names() -> None:
    card = _found("rtx4090")
    assert card.total_bytes == int(23.55 * GIB)
    assert card.memory_bandwidth_bytes_per_second == 1008e9
    assert card.fp16_flops == pytest.approx(165.2e12)
    assert card.compute_capability == (8, 9)
    assert (card.supports_bf16, card.supports_fp8, card.supports_fp4, card.nvlink) == (True, True, False, False)
    assert _found("mi300x").compute_capability is None


def _found(name: str, memory_mib: int | None = None) -> CatalogueGpu:
    card = find_gpu(name, memory_mib)
    assert card is not None
    return card
