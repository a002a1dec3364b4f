"""The cards of a run: measured by (a stand-in for) NVML where they are, described by the catalogue where not."""

from __future__ import annotations

import sys

import psutil
import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.facts.machine.catalogue import estimate_cuda_total, pcie_bandwidth
from nexus_orch.facts.machine.gpus import OTHER_GPU_RESERVE_BYTES, read_gpus
from nexus_orch.types import GIB, MIB, GpuSpec
from tests.nvml_driver import Card, Driver

A100_PCIE = Card("NVIDIA A100 80GB PCIe", 81920, 760, 0, (8, 0))
H200 = Card("NVIDIA H200", 143771, 615, 0, (9, 0), (5, 16))


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A machine with two RTX 4090, until a test puts other cards in."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    stand_in = Driver(Card(), Card(used_mib=0))
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_without_wishes_every_card_here_is_measured(driver: Driver) -> None:
    reading = read_gpus(GpuSpec(), {})
    first, second = reading.gpus
    assert (first.index, second.index, first.source) == (0, 1, "nvml")
    assert first.total_bytes == second.total_bytes == (24564 - 448) * MIB
    assert (first.free_bytes, second.free_bytes) == (first.total_bytes - 2048 * MIB, second.total_bytes)
    assert first.memory_bandwidth_bytes_per_second == 1008e9
    assert first.host_bandwidth_bytes_per_second == pcie_bandwidth(4, 16)
    assert (first.compute_capability, first.supports_bf16, first.supports_fp8) == ((8, 9), True, True)
    assert (first.nvlink, reading.is_this_machine, reading.notes) == (False, True, ())
    assert driver.open_sessions == 0


def test_a_card_in_a_narrow_slot_has_a_slow_bus(driver: Driver) -> None:
    driver.cards = (Card(pcie=(3, 8)),)
    assert read_gpus(GpuSpec(), {}).gpus[0].host_bandwidth_bytes_per_second == pcie_bandwidth(3, 8)


def test_a_measured_bandwidth_in_the_profile_wins() -> None:
    assert read_gpus(GpuSpec(pcie_gbps=21.5), {}).gpus[0].host_bandwidth_bytes_per_second == 21.5e9
    assert read_gpus(GpuSpec("l40s", pcie_gbps=21.5), {}).gpus[0].host_bandwidth_bytes_per_second == 21.5e9


def test_an_old_driver_leaves_the_total_to_the_catalogue(driver: Driver) -> None:
    driver.old = True
    assert read_gpus(GpuSpec(), {}).gpus[0].total_bytes == int(23.55 * GIB)
    driver.cards = (Card(total_mib=49140),)  # a card with more memory soldered on
    assert read_gpus(GpuSpec(), {}).gpus[0].total_bytes == estimate_cuda_total(49140 * MIB)


def test_a_card_that_the_catalogue_does_not_know_is_measured_all_the_same(driver: Driver) -> None:
    driver.cards = (Card("NVIDIA Rubin R100", 294912, 900, 0, (11, 0)),)
    (gpu,) = read_gpus(GpuSpec(), {}).gpus
    assert gpu.total_bytes == (294912 - 900) * MIB
    assert (gpu.memory_bandwidth_bytes_per_second, gpu.fp16_flops, gpu.supports_fp8) == (None, None, True)


def test_a_card_that_shares_the_hosts_memory(driver: Driver) -> None:
    driver.cards = (Card("NVIDIA GB10", capability=(12, 1)),)
    driver.lacking = ("nvmlDeviceGetMemoryInfo",)
    (gpu,) = read_gpus(GpuSpec(), {}).gpus
    assert gpu.total_bytes == int(121.69 * GIB)
    assert 0 < gpu.free_bytes <= min(gpu.total_bytes, psutil.virtual_memory().total)


def test_without_a_driver_there_is_no_card_and_a_reason(driver: Driver) -> None:
    driver.lacking = ("nvmlInit",)
    reading = read_gpus(GpuSpec(), {})
    assert (reading.gpus, reading.is_this_machine) == ((), True)
    assert reading.notes == ("no GPU: no NVIDIA driver answers (Not Supported)",)


def test_the_cpu_engine_asks_nobody(driver: Driver) -> None:
    assert read_gpus(GpuSpec(count=0), {}).gpus == ()
    assert read_gpus(GpuSpec("rtx4090", count=0), {}).notes == ()


@pytest.mark.parametrize(
    ("listing", "indices"),
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 0 , 1 ", [0, 1]),
        ("GPU-11", [1]),
        ("GPU-11111", []),
        ("GPU-", []),  # not unique
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),  # what follows a card that is not there is hidden too
        ("0,0", [0]),
    ],
)
def test_cuda_visible_devices(monkeypatch: pytest.MonkeyPatch, listing: str, indices: list[int]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listing)
    reading = read_gpus(GpuSpec(), {})
    assert [gpu.index for gpu in reading.gpus] == indices
    hides = f"CUDA_VISIBLE_DEVICES={listing} leaves {len(indices)} of 2 cards"
    assert (hides in reading.notes) == (len(indices) < 2)


def test_hidden_cards_are_the_reason_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert read_gpus(GpuSpec(), {}).notes[-1] == "no GPU: CUDA_VISIBLE_DEVICES hides every card"


def test_slices_of_a_card_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-6b1f")
    assert any("slices of a card (MIG)" in note for note in read_gpus(GpuSpec(), {}).notes)


def test_differing_cards_and_an_open_order_are_noted(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.cards = (Card(), H200)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert any("CUDA_DEVICE_ORDER=PCI_BUS_ID" in note for note in read_gpus(GpuSpec(), {}).notes)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert not any("CUDA_DEVICE_ORDER" in note for note in read_gpus(GpuSpec(), {}).notes)


def test_a_profile_of_cards_that_are_here_is_measured() -> None:
    reading = read_gpus(GpuSpec("GeForce RTX 4090", 1, 24564), {})
    assert ([gpu.index for gpu in reading.gpus], reading.is_this_machine) == ([0], True)
    assert reading.gpus[0].source == "nvml"


def test_a_profile_without_a_count_takes_all_such_cards() -> None:
    assert len(read_gpus(GpuSpec("rtx4090"), {}).gpus) == 2
    assert len(read_gpus(GpuSpec("l40s"), {}).gpus) == 1


def test_a_profile_finds_its_cards_among_others(driver: Driver) -> None:
    driver.cards = (Card(), A100_PCIE, A100_PCIE)
    reading = read_gpus(GpuSpec("a100_80g", 2, 81920), {})
    assert ([gpu.index for gpu in reading.gpus], reading.is_this_machine) == ([1, 2], True)
    assert reading.visible == (0, 1, 2)
    assert read_gpus(GpuSpec("a100"), {}).is_this_machine
    assert not read_gpus(GpuSpec("a100_40g"), {}).is_this_machine


def test_more_cards_than_are_here_describe_another_machine() -> None:
    reading = read_gpus(GpuSpec("rtx4090", 4, 24564), {})
    assert (len(reading.gpus), reading.is_this_machine) == (4, False)
    note = "planned for another machine with 4 x GeForce RTX 4090; this one has 2 x NVIDIA GeForce RTX 4090"
    assert reading.notes == (note,)


def test_a_described_card_comes_from_the_catalogue() -> None:
    reading = read_gpus(GpuSpec("h200", 2), {})
    first, second = reading.gpus
    assert (first.index, second.index, first.name, first.source) == (0, 1, "H200 SXM", "catalogue")
    assert first.total_bytes == int(139.81 * GIB)
    assert first.free_bytes == first.total_bytes - OTHER_GPU_RESERVE_BYTES
    assert first.host_bandwidth_bytes_per_second == pcie_bandwidth(5, 16)
    assert (first.nvlink, first.compute_capability) == (True, (9, 0))


def test_doubts_about_a_described_card_are_noted() -> None:
    assert "is an estimate" in read_gpus(GpuSpec("rtx3060_12g"), {}).notes[-1]
    reading = read_gpus(GpuSpec("rtx3090", memory_mib=49152), {})
    assert reading.gpus[0].total_bytes == estimate_cuda_total(49152 * MIB)
    wanted = "the catalogue knows GeForce RTX 3090 with 24576 MiB; hardware.gpu.memory_mib=49152 counts"
    assert reading.notes[-1] == wanted


def test_an_unknown_card_with_its_memory_told() -> None:
    (gpu,) = read_gpus(GpuSpec("Rubin R100", memory_mib=294912), {}).gpus
    assert (gpu.name, gpu.source, gpu.memory_bandwidth_bytes_per_second) == ("Rubin R100", "profile", None)
    assert gpu.total_bytes == estimate_cuda_total(294912 * MIB)


def test_memory_alone_describes_a_card_of_that_size(driver: Driver) -> None:
    assert read_gpus(GpuSpec(memory_mib=24564), {}).is_this_machine
    reading = read_gpus(GpuSpec(memory_mib=16384), {})
    assert (reading.gpus[0].name, reading.is_this_machine) == ("unnamed card", False)


def test_an_unknown_card_is_a_mistake_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        read_gpus(GpuSpec("rtx4190"), {"hardware.gpu.model": "command line"})
    (problem,) = caught.value.problems
    assert problem.message == 'no card called "rtx4190" is in the catalogue'
    assert (problem.key, problem.value, problem.origin) == ("hardware.gpu.model", "rtx4190", "command line")
    assert problem.remedy is not None
    assert "did you mean GeForce RTX 4090" in problem.remedy
    assert "hardware.gpu.memory_mib" in problem.remedy


def test_more_cards_than_there_are_without_a_name_is_a_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        read_gpus(GpuSpec(count=3), {"hardware.gpu.count": "command line"})
    (problem,) = caught.value.problems
    assert problem.message == "the run wants 3 cards, this machine has 2 x NVIDIA GeForce RTX 4090"
    assert (problem.key, problem.cause, problem.origin) == ("hardware.gpu.count", "not_enough_gpus", "command line")


def test_a_number_of_cards_takes_the_first_ones() -> None:
    assert [gpu.index for gpu in read_gpus(GpuSpec(count=1), {}).gpus] == [0]


def test_named_cards_are_taken_in_their_order() -> None:
    assert [gpu.index for gpu in read_gpus(GpuSpec(devices=(1, 0)), {}).gpus] == [1, 0]
    assert [gpu.index for gpu in read_gpus(GpuSpec("rtx4090", devices=(1,)), {}).gpus] == [1]


def test_cards_named_for_another_machine_keep_their_numbers() -> None:
    reading = read_gpus(GpuSpec("h200", devices=(2, 5)), {})
    assert ([gpu.index for gpu in reading.gpus], reading.is_this_machine) == ([2, 5], False)


def test_a_named_card_that_is_not_here_is_a_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        read_gpus(GpuSpec(devices=(0, 7)), {"hardware.gpu.devices": "command line"})
    (problem,) = caught.value.problems
    assert (problem.key, problem.value, problem.origin) == ("hardware.gpu.devices", [0, 7], "command line")
    assert (problem.cause, "2 x NVIDIA GeForce RTX 4090" in problem.message) == ("not_enough_gpus", True)


@pytest.mark.parametrize(
    ("name", "nvlink", "is_bridge"),
    [
        ("rtx5090", False, False),
        ("rtx3090", None, True),
        ("NVIDIA A100 80GB PCIe", None, True),
        ("A100 SXM4 80GB", True, False),
        ("H100 NVL", None, True),
        ("h20", True, False),
        ("b200", True, False),
    ],
)
def test_a_board_brings_its_nvlink_and_a_bridge_must_be_seen(name: str, nvlink: bool | None, is_bridge: bool) -> None:
    (gpu,) = read_gpus(GpuSpec(name), {}).gpus
    assert (gpu.nvlink, gpu.nvlink_is_bridge) == (nvlink, is_bridge)


def test_a_bridge_that_the_driver_sees_counts(driver: Driver) -> None:
    driver.cards = (Card("NVIDIA GeForce RTX 3090", 24576, capability=(8, 6), has_nvlink=True),) * 2
    assert [(gpu.nvlink, gpu.nvlink_is_bridge) for gpu in read_gpus(GpuSpec(), {}).gpus] == [(True, True)] * 2
