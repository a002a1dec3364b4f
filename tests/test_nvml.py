"""The NVML session against a stand-in for the module `pynvml`: drivers lack functions, cards lack sensors."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nexus_orch.nvml import Nvml, NvmlProcess, open_nvml
from nexus_orch.types import GIB


class NVMLError(Exception):
    """As in pynvml."""


class FakeDriver(ModuleType):
    """One RTX 4090 behind the functions of `pynvml`. What is in `lacking` raises, as an old driver does."""

    NVMLError = NVMLError
    NVML_NVLINK_MAX_LINKS = 4

    def __init__(self, lacking: tuple[str, ...] = (), cards: int = 1, old: bool = False) -> None:
        super().__init__("pynvml")
        self.nvmlMemory_v2 = 2
        self.lacking = lacking
        self.cards = cards
        self.old = old
        self.open = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in super().__getattribute__("lacking"):
            return _refuse
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.86.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12080

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"card {index}"

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "NVIDIA GeForce RTX 4090"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int | None = None) -> SimpleNamespace:
        """As seen on an H200: the old form counts the driver's reserve (here 1 GiB) as used."""
        if version is None:
            return SimpleNamespace(total=24 * GIB, used=3 * GIB, free=21 * GIB)
        if self.old:
            _refuse()
        return SimpleNamespace(total=24 * GIB, used=2 * GIB, free=21 * GIB, reserved=GIB)

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:
        return (8, 9)

    def nvmlDeviceGetNvLinkState(self, handle: str, link: int) -> int:
        return int(link == 2)

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: str) -> int:
        return 4

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: str) -> int:
        return 16

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 312_500

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=41, usedGpuMemory=GIB), SimpleNamespace(pid=42, usedGpuMemory=None)]

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=43, usedGpuMemory=2 * GIB)]


def _refuse(*arguments: object) -> None:
    raise NVMLError("Not Supported")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install_driver(driver: FakeDriver) -> FakeDriver:
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        return driver

    return install_driver


def test_reads_a_card(install: Any) -> None:
    driver = install(FakeDriver())
    with open_nvml() as nvml:
        (device,) = nvml.devices
        assert device.name == "NVIDIA GeForce RTX 4090"
        assert (device.memory_total_bytes, device.memory_reserved_bytes) == (24 * GIB, GIB)
        assert device.uuid == "GPU-card 0"
        assert device.compute_capability == (8, 9)
        assert device.nvlink is True
        assert (device.pcie_generation, device.pcie_lanes) == (4, 16)
        assert (nvml.driver_version, nvml.cuda_version, nvml.reason) == ("570.86.15", "12.8", None)
        reading = nvml.read(0)
        assert reading is not None
        assert (reading.memory_used_bytes, reading.memory_free_bytes) == (2 * GIB, 21 * GIB)
        assert (reading.utilization, reading.temperature_celsius, reading.power_watts) == (0.37, 61.0, 312.5)
        assert nvml.processes(0) == (NvmlProcess(41, GIB), NvmlProcess(42, None))
    assert driver.open == 0


def test_a_card_without_sensors_still_tells_its_memory(install: Any) -> None:
    sensors = ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage")
    links = ("nvmlDeviceGetNvLinkState", "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetCudaComputeCapability")
    install(FakeDriver(lacking=sensors + links))
    with open_nvml() as nvml:
        (device,) = nvml.devices
        assert (device.nvlink, device.pcie_generation, device.compute_capability) == (None, None, None)
        reading = nvml.read(0)
        assert reading is not None
        assert reading.memory_total_bytes == 24 * GIB
        assert (reading.utilization, reading.temperature_celsius, reading.power_watts) == (None, None, None)


def test_an_old_driver_counts_its_reserve_as_used(install: Any) -> None:
    install(FakeDriver(old=True))
    with open_nvml() as nvml:
        assert nvml.devices[0].memory_reserved_bytes is None
        reading = nvml.read(0)
        assert reading is not None
        assert (reading.memory_used_bytes, reading.memory_free_bytes) == (3 * GIB, 21 * GIB)


def test_an_old_driver_lists_processes_by_the_second_version(install: Any) -> None:
    install(FakeDriver(lacking=("nvmlDeviceGetComputeRunningProcesses_v3",)))
    with open_nvml() as nvml:
        assert nvml.processes(0) == (NvmlProcess(43, 2 * GIB),)


def test_a_card_with_unified_memory_uses_what_its_processes_hold(install: Any) -> None:
    install(FakeDriver(lacking=("nvmlDeviceGetMemoryInfo",)))
    with open_nvml() as nvml:
        assert nvml.devices[0].memory_total_bytes == 0
        reading = nvml.read(0)
        assert reading is not None
        assert (reading.memory_used_bytes, reading.memory_total_bytes, reading.memory_free_bytes) == (GIB, 0, 0)


def test_a_card_that_falls_off_the_bus_reads_as_nothing(install: Any) -> None:
    driver = install(FakeDriver())
    with open_nvml() as nvml:
        driver.lacking = tuple(name for name in dir(FakeDriver) if name.startswith("nvmlDevice"))
        assert nvml.read(0) is None
        assert nvml.processes(0) == ()


def test_a_driver_that_does_not_start_is_a_reason_not_an_error(install: Any) -> None:
    install(FakeDriver(lacking=("nvmlInit",)))
    with open_nvml() as nvml:
        assert nvml.devices == ()
        assert nvml.reason == "no NVIDIA driver answers (Not Supported)"
        assert (nvml.read(0), nvml.processes(0)) == (None, ())


def test_no_card_and_no_binding_are_reasons(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(FakeDriver(cards=0))
    assert open_nvml().reason == "the NVIDIA driver sees no card"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_nvml().reason == "the package nvidia-ml-py is not installed"


def test_a_closed_session_finds_nothing_and_closes_twice(install: Any) -> None:
    driver = install(FakeDriver())
    nvml = open_nvml()
    nvml.close()
    nvml.close()
    assert (nvml.read(0), nvml.processes(0), driver.open) == (None, (), 0)


def test_the_real_binding_never_raises() -> None:
    with open_nvml() as nvml:
        assert isinstance(nvml, Nvml)
        assert (nvml.reason is None) == bool(nvml.devices)
