"""NVML, opened safely: what the NVIDIA driver says about cards and processes, without ever raising its errors.

`open_nvml()` always gives an `Nvml`. Without a driver it has no devices and says why in `reason`; a question that the
driver or the card cannot answer (virtual machines, laptops, cards with unified memory) gives None.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"

_THROTTLES = {
    0x8: "the hardware slowed it down",
    0x20: "too hot (driver)",
    0x40: "too hot (hardware)",
    0x80: "the power supply's brake",
}
"""nvml.h: nvmlClocksEventReasonHwSlowdown, SwThermalSlowdown, HwThermalSlowdown and HwPowerBrakeSlowdown. Its power
limit (0x4) is none of them: a card that computes with all its units runs at it by design."""


@dataclass(frozen=True)
class NvmlDevice:
    """One card. `index` counts in PCI bus order and ignores CUDA_VISIBLE_DEVICES.

    `memory_total_bytes` is 0 for a card that shares the host's RAM (GB10): NVML does not tell it there.
    `memory_reserved_bytes` of it belong to the driver; the rest is what CUDA calls the total (equal to the byte on an
    H200 with driver 580.159). Drivers before 510 do not tell the reserve: then it is None. The PCIe link is the best
    one that card and slot can agree on, not the one in use now: an idle card lowers its link.
    """

    index: int
    uuid: str
    name: str
    memory_total_bytes: int
    memory_reserved_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    nvlink: bool | None = None
    """True when at least one NVLink is up, False when the card says that none is."""
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    pci_address: str | None = None
    """As Linux writes it: "0000:3b:00.0"."""


@dataclass(frozen=True)
class NvmlReading:
    """The state of one card now. `utilization` is a fraction of 1.

    `memory_used_bytes` is what processes hold, as nvidia-smi shows it, without the driver's reserve; a driver before
    510 cannot tell them apart, and then the reserve is part of it.
    """

    memory_used_bytes: int
    memory_total_bytes: int
    utilization: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    memory_reserved_bytes: int = 0

    @property
    def memory_free_bytes(self) -> int:
        return max(self.memory_total_bytes - self.memory_reserved_bytes - self.memory_used_bytes, 0)


@dataclass(frozen=True)
class NvmlProcess:
    """A process with memory on a card. `memory_bytes` is None where the driver hides it (Windows, WSL, containers)."""

    pid: int
    memory_bytes: int | None


class Nvml:
    """An open NVML session; a context manager. Every method may be called after `close`: it then finds nothing."""

    def __init__(self, library: Any | None, reason: str | None = None) -> None:
        """`library` is the initialised module `pynvml`, None when there is none."""
        self._library = library
        self._handles: dict[int, Any] = {}
        self.reason = reason
        """Why there are no devices, in a few words; None when there are some."""
        self.driver_version: str | None = None
        self.cuda_version: str | None = None
        """The newest CUDA version that the driver can run, such as "12.8"."""
        self.devices: tuple[NvmlDevice, ...] = ()
        if library is not None:
            self._read_system()

    def __enter__(self) -> Nvml:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, index: int) -> NvmlReading | None:
        """Memory, load, temperature and power of the card with this index; None when it is gone or unreadable."""
        handle = self._handles.get(index)
        if handle is None:
            return None
        memory = self._read_memory(handle)
        if memory is None:
            memory = self._read_shared_memory(index)
        if memory is None:
            return None
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        celsius = self._ask("nvmlDeviceGetTemperature", handle, 0)  # 0: the sensor on the GPU die
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", handle)
        return NvmlReading(
            memory_used_bytes=memory.used_bytes,
            memory_total_bytes=memory.total_bytes,
            utilization=None if rates is None else float(rates.gpu) / 100,
            temperature_celsius=None if celsius is None else float(celsius),
            power_watts=None if milliwatts is None else float(milliwatts) / 1000,
            memory_reserved_bytes=memory.reserved_bytes or 0,
        )

    def throttles(self, index: int) -> frozenset[str]:
        """Why the card with this index runs slower than it could now; empty when it does not, or does not tell."""
        handle = self._handles.get(index)
        if handle is None:
            return frozenset()
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # the name of drivers before 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return frozenset(name for bit, name in _THROTTLES.items() if int(bits or 0) & bit)

    def processes(self, index: int) -> tuple[NvmlProcess, ...]:
        """The compute processes on the card with this index, by process id (of the host, inside a container too)."""
        handle = self._handles.get(index)
        if handle is None:
            return ()
        found = self._ask("nvmlDeviceGetComputeRunningProcesses_v3", handle)
        if found is None:  # drivers before 510 know only the second version
            found = self._ask("nvmlDeviceGetComputeRunningProcesses_v2", handle)
        return tuple(NvmlProcess(int(process.pid), process.usedGpuMemory) for process in found or ())

    def close(self) -> None:
        """End the session. Closing twice does nothing."""
        if self._library is not None:
            self._ask("nvmlShutdown")
        self._library = None
        self._handles = {}

    def _ask(self, function: str, *arguments: Any) -> Any | None:
        """The answer of one NVML function, None when the library, the driver or the card lacks it or refuses."""
        call = getattr(self._library, function, None)
        if call is None or self._library is None:
            return None
        try:
            return call(*arguments)
        except self._library.NVMLError:
            return None

    def _read_system(self) -> None:
        self.driver_version = _as_text(self._ask("nvmlSystemGetDriverVersion"))
        cuda = self._ask("nvmlSystemGetCudaDriverVersion")
        if cuda is not None:  # 12080 is 12.8 (cudaDriverGetVersion: 1000 x major + 10 x minor)
            self.cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}"
        count = self._ask("nvmlDeviceGetCount") or 0
        for index in range(count):
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                self._handles[index] = handle
        self.devices = tuple(self._read_device(index, handle) for index, handle in self._handles.items())
        if not self.devices:
            self.reason = "the NVIDIA driver sees no card" if count == 0 else "no card answers the NVIDIA driver"

    def _read_device(self, index: int, handle: Any) -> NvmlDevice:
        memory = self._read_memory(handle)
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", handle)
        return NvmlDevice(
            index=index,
            uuid=_as_text(self._ask("nvmlDeviceGetUUID", handle)) or "",
            name=_as_text(self._ask("nvmlDeviceGetName", handle)) or f"NVIDIA GPU {index}",
            memory_total_bytes=0 if memory is None else memory.total_bytes,
            memory_reserved_bytes=None if memory is None else memory.reserved_bytes,
            compute_capability=None if capability is None else (int(capability[0]), int(capability[1])),
            nvlink=self._read_nvlink(handle),
            pcie_generation=self._ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
            pcie_lanes=self._ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
            pci_address=_pci_address(self._ask("nvmlDeviceGetPciInfo", handle)),
        )

    def _read_nvlink(self, handle: Any) -> bool | None:
        links = range(int(getattr(self._library, "NVML_NVLINK_MAX_LINKS", 0)))
        states = [self._ask("nvmlDeviceGetNvLinkState", handle, link) for link in links]
        known = [state for state in states if state is not None]
        return any(known) if known else None

    def _read_memory(self, handle: Any) -> _Memory | None:
        version = getattr(self._library, "nvmlMemory_v2", None)
        memory = None if version is None else self._ask("nvmlDeviceGetMemoryInfo", handle, version)
        if memory is not None:
            return _Memory(int(memory.used), int(memory.total), int(memory.reserved))
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        return None if memory is None else _Memory(int(memory.used), int(memory.total), None)

    def _read_shared_memory(self, index: int) -> _Memory | None:
        """For a card without memory of its own: what its processes hold. None for every other card."""
        shares = any(device.index == index and device.memory_total_bytes == 0 for device in self.devices)
        if not shares:
            return None
        return _Memory(sum(process.memory_bytes or 0 for process in self.processes(index)), 0, None)


@dataclass(frozen=True)
class _Memory:
    used_bytes: int
    total_bytes: int
    reserved_bytes: int | None


def open_nvml() -> Nvml:
    """A session with the NVIDIA driver of this machine. Never raises: without a driver, `devices` is empty."""
    if "pynvml" not in sys.modules and sys.platform == "linux" and not _has_library():
        return Nvml(None, f"no NVIDIA driver answers (there is no {_LIBRARY})")
    try:
        import pynvml  # noqa: PLC0415 - it takes 20 ms that a machine without a driver need not pay
    except ImportError:
        return Nvml(None, "the package nvidia-ml-py is not installed")
    library: Any = pynvml
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return Nvml(None, f"no NVIDIA driver answers ({error})")
    return Nvml(library)


def _has_library() -> bool:
    """Whether the driver's library can be loaded, by the name that pynvml looks for on Linux."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _as_text(value: Any) -> str | None:
    """NVML's strings: bytes from old versions of the binding, str from new ones."""
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _pci_address(info: Any | None) -> str | None:
    return None if info is None else f"{info.domain:04x}:{info.bus:02x}:{info.device:02x}.0"
