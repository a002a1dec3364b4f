"""The NVML session: what it reads, and that no lack of the driver or of a card becomes an error."""

from __future__ import annotations

import sys

import pytest

from nexus_orch.nvml import Nvml, NvmlProcess, open_nvml
from nexus_orch.types import GIB, MIB
from tests.nvml_driver import Card, Driver


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver with one RTX 4090; a test may change it or put another one in its place."""
    stand_in = Driver(Card())
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_reads_a_card(driver: Driver) -> None:
    driver.cards = (Card(has_nvlink=True),)
    with open_nvml() as nvml:
        (device,) = nvml.devices
        assert (device.name, device.uuid) == ("NVIDIA GeForce RTX 4090", "GPU-00-abc")
        assert (device.memory_total_bytes, device.memory_reserved_bytes) == (24564 * MIB, 448 * MIB)
        assert (device.compute_capability, device.nvlink) == ((8, 9), True)
        assert (device.pcie_generation, device.pcie_lanes) == (4, 16)
        assert (nvml.driver_version, nvml.cuda_version, nvml.reason) == ("570.86.15", "12.8", None)
        reading = nvml.read(0)
        assert reading is not None
        assert (reading.memory_used_bytes, reading.memory_free_bytes) == (2048 * MIB, 22068 * MIB)
        assert (reading.utilization, reading.temperature_celsius, reading.power_watts) == (0.37, 61.0, 312.5)
        assert nvml.processes(0) == (NvmlProcess(41, GIB), NvmlProcess(42, None))
    assert driver.open_sessions == 0


def test_a_card_without_sensors_still_tells_its_memory(driver: Driver) -> None:
    sensors = ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage")
    links = ("nvmlDeviceGetNvLinkState", "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetCudaComputeCapability")
    driver.lacking = sensors + links
    with open_nvml() as nvml:
        (device,) = nvml.devices
        assert (device.nvlink, device.pcie_generation, device.compute_capability) == (None, None, None)
        reading = nvml.read(0)
        assert reading is not None
        assert reading.memory_total_bytes == 24564 * MIB
        assert (reading.utilization, reading.temperature_celsius, reading.power_watts) == (None, None, None)


def test_an_old_driver_counts_its_reserve_as_used(driver: Driver) -> None:
    driver.old = True
    with open_nvml() as nvml:
        assert nvml.devices[0].memory_reserved_bytes is None
        reading = nvml.read(0)
        assert reading is not None
        assert (reading.memory_used_bytes, reading.memory_free_bytes) == (2496 * MIB, 22068 * MIB)


def test_an_old_driver_lists_processes_by_the_second_version(driver: Driver) -> None:
    driver.lacking = ("nvmlDeviceGetComputeRunningProcesses_v3",)
    with open_nvml() as nvml:
        assert nvml.processes(0) == (NvmlProcess(43, 2 * GIB),)


def test_a_card_with_unified_memory_uses_what_its_processes_hold(driver: Driver) -> None:
    driver.lacking = ("nvmlDeviceGetMemoryInfo",)
    with open_nvml() as nvml:
        assert nvml.devices[0].memory_total_bytes == 0
        reading = nvml.read(0)
        assert reading is not None
        assert (reading.memory_used_bytes, reading.memory_total_bytes, reading.memory_free_bytes) == (GIB, 0, 0)


def test_a_card_that_falls_off_the_bus_reads_as_nothing(driver: Driver) -> None:
    with open_nvml() as nvml:
        driver.lacking = tuple(name for name in dir(Driver) if name.startswith("nvmlDevice"))
        assert nvml.read(0) is None
        assert nvml.processes(0) == ()


def test_a_driver_that_does_not_start_is_a_reason_not_an_error(driver: Driver) -> None:
    driver.lacking = ("nvmlInit",)
    with open_nvml() as nvml:
        assert nvml.devices == ()
        assert nvml.reason == "no NVIDIA driver answers (Not Supported)"
        assert (nvml.read(0), nvml.processes(0)) == (None, ())


def test_no_card_and_no_binding_are_reasons(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.cards = ()
    assert open_nvml().reason == "the NVIDIA driver sees no card"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_nvml().reason == "the package nvidia-ml-py is not installed"


def test_a_closed_session_finds_nothing_and_closes_twice(driver: Driver) -> None:
    nvml = open_nvml()
    nvml.close()
    nvml.close()
    assert (nvml.read(0), nvml.processes(0), driver.open_sessions) == (None, (), 0)


def test_the_real_binding_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml")
    with open_nvml() as nvml:
        assert isinstance(nvml, Nvml)
        assert (nvml.reason is None) == bool(nvml.devices)
