"""A stand-in for the module `pynvml`: cards as one wants them, and functions that a driver or a card lacks."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from nexus_orch.types import GIB, MIB


class NVMLError(Exception):
    """As in pynvml."""


@dataclass(frozen=True)
class Card:
    """One card; `used_mib` is what processes hold."""

    name: str = "NVIDIA GeForce RTX 4090"
    total_mib: int = 24564
    reserved_mib: int = 448
    used_mib: int = 2048
    capability: tuple[int, int] = (8, 9)
    pcie: tuple[int, int] = (4, 16)
    has_nvlink: bool = False


class Driver(ModuleType):
    """The functions of `pynvml` over some cards. Those named in `lacking` raise; `old` is a driver before 510."""

    NVMLError = NVMLError
    NVML_NVLINK_MAX_LINKS = 4

    def __init__(self, *cards: Card, lacking: tuple[str, ...] = (), old: bool = False) -> None:
        super().__init__("pynvml")
        self.nvmlMemory_v2 = 2
        self.cards = cards
        self.lacking = lacking
        self.old = old
        self.open_sessions = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in super().__getattribute__("lacking"):
            return _refuse
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        self.open_sessions += 1

    def nvmlShutdown(self) -> None:
        self.open_sessions -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.86.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12080

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.cards[handle].name

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}{handle}-abc"

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> SimpleNamespace:
        """As seen on an H200: the old form counts the driver's reserve as used."""
        card = self.cards[handle]
        total, used, reserved = card.total_mib * MIB, card.used_mib * MIB, card.reserved_mib * MIB
        if version is None:
            return SimpleNamespace(total=total, used=used + reserved, free=total - used - reserved)
        if self.old:
            _refuse()
        return SimpleNamespace(total=total, used=used, free=total - used - reserved, reserved=reserved)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return self.cards[handle].capability

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:
        return int(self.cards[handle].has_nvlink and link == 2)

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: int) -> int:
        return self.cards[handle].pcie[0]

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: int) -> int:
        return self.cards[handle].pcie[1]

    def nvmlDeviceGetPciInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(domain=0, bus=0x3B + handle, device=0)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 312_500

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=41, usedGpuMemory=GIB), SimpleNamespace(pid=42, usedGpuMemory=None)]

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=43, usedGpuMemory=2 * GIB)]


def _refuse(*arguments: object) -> None:
    raise NVMLError("Not Supported")
