"""The cards of a run: measured by NVML on this machine, or described by a profile and the catalogue."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import psutil

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.machine.catalogue import (
    GIGA,
    CatalogueGpu,
    describe_card,
    estimate_cuda_total,
    find_gpu,
    is_same_card,
    nearest_gpus,
    pcie_bandwidth,
)
from nexus_orch.facts.machine.host import read_numa_node
from nexus_orch.nvml import Nvml, NvmlDevice, open_nvml
from nexus_orch.suggest import did_you_mean
from nexus_orch.types import MIB, GpuFacts, GpuSpec

OTHER_GPU_RESERVE_BYTES = 256 * MIB
"""What is taken on a card that cannot be asked: a text console or a plain desktop session."""
_SAME_SIZE = 0.1
"""Cards of one name differ by less than this in what they report (ECC on or off: 6 %), two sizes of a card by more."""


@dataclass(frozen=True)
class GpuReading:
    """The cards of a run. `is_this_machine` is False when a profile describes cards that are not here."""

    gpus: tuple[GpuFacts, ...]
    is_this_machine: bool = True
    notes: tuple[str, ...] = ()
    driver_version: str | None = None
    visible: tuple[int, ...] = ()
    """The indices of all cards that an engine would see here."""


def read_gpus(spec: GpuSpec, origins: Mapping[str, str]) -> GpuReading:
    """The cards that this spec means; none when `count` is 0 or when nothing is asked for and NVML finds none.

    Cards that are here are measured; a profile's card that is not here comes from the catalogue. Raises ConfigError
    for a card that nobody knows, and for more cards than there are when no model is named.
    """
    if spec.count == 0:
        return GpuReading(())
    with open_nvml() as nvml:
        here = read_visible(nvml, os.environ)
        chosen = _choose_here(spec, here.devices)
        if chosen is not None:
            gpus = tuple(_measure(nvml, device, spec) for device in chosen)
            notes = here.notes if gpus else (*here.notes, f"no GPU: {_why_none(nvml)}")
            driver = nvml.driver_version if gpus else None
            visible = tuple(device.index for device in here.devices)
            return GpuReading(gpus, notes=notes, driver_version=driver, visible=visible)
        present = _render_present(nvml, here.devices)
    if spec.model is None and spec.memory_mib is None:
        raise ConfigError((_no_such_card if spec.devices else _not_enough)(spec, present, origins))
    return _describe(spec, here.notes, present, origins)


@dataclass(frozen=True)
class VisibleDevices:
    devices: tuple[NvmlDevice, ...]
    notes: tuple[str, ...] = ()


def read_visible(nvml: Nvml, environ: Mapping[str, str]) -> VisibleDevices:
    """The cards that CUDA_VISIBLE_DEVICES leaves in this environment, in its order.

    Entries are indices or (beginnings of) GPU-UUIDs; as in CUDA, an entry that names no card hides all that follow.
    Indices are taken in NVML's order, as vLLM takes them; CUDA itself counts so only with
    CUDA_DEVICE_ORDER=PCI_BUS_ID, which matters when the cards differ.
    """
    listing = environ.get("CUDA_VISIBLE_DEVICES")
    if listing is None:
        return VisibleDevices(nvml.devices)
    devices: list[NvmlDevice] = []
    for entry in (part.strip() for part in listing.split(",")):
        device = _find_device(nvml.devices, entry)
        if device is None or device in devices:
            break
        devices.append(device)
    notes = []
    if len(devices) < len(nvml.devices):
        notes.append(f"CUDA_VISIBLE_DEVICES={listing} leaves {len(devices)} of {len(nvml.devices)} cards")
    if "MIG-" in listing:
        notes.append("slices of a card (MIG) cannot be measured: name the slice's memory, hardware.gpu.memory_mib")
    names = {device.name for device in nvml.devices}
    if len(names) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        notes.append("the cards differ: set CUDA_DEVICE_ORDER=PCI_BUS_ID, else CUDA may number them in another order")
    return VisibleDevices(tuple(devices), tuple(notes))


def _find_device(devices: Sequence[NvmlDevice], entry: str) -> NvmlDevice | None:
    if entry.isdecimal():
        return next((device for device in devices if device.index == int(entry)), None)
    matching = [device for device in devices if entry.startswith("GPU-") and device.uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def _choose_here(spec: GpuSpec, devices: Sequence[NvmlDevice]) -> tuple[NvmlDevice, ...] | None:
    """The cards of this machine that serve the spec; None when they are too few or of another kind."""
    if spec.model is None and spec.count is None and spec.memory_mib is None and spec.devices is None:
        return tuple(devices)
    matching = [device for device in devices if _is_meant(device, spec)]
    if spec.devices is not None:
        by_index = {device.index: device for device in matching}
        named = [by_index[index] for index in spec.devices if index in by_index]
        return tuple(named) if len(named) == len(spec.devices) else None
    count = len(matching) if spec.count is None else spec.count
    return tuple(matching[:count]) if 0 < count <= len(matching) else None


def _is_meant(device: NvmlDevice, spec: GpuSpec) -> bool:
    if spec.model is not None and not is_same_card(spec.model, device.name):
        return False
    device_mib = device.memory_total_bytes // MIB
    wanted_mib = spec.memory_mib
    if wanted_mib is None and spec.model is not None:
        card = find_gpu(spec.model, device_mib)
        wanted_mib = None if card is None else card.nvml_total_bytes // MIB
    return wanted_mib is None or device_mib == 0 or abs(device_mib / wanted_mib - 1) < _SAME_SIZE


def _measure(nvml: Nvml, device: NvmlDevice, spec: GpuSpec) -> GpuFacts:
    """A card of this machine: memory from NVML, speeds from the catalogue, the bus from the profile or NVML."""
    card = find_gpu(device.name, device.memory_total_bytes // MIB or None)
    known = _recall(card, spec)
    total = _cuda_total(device, card)
    capability = device.compute_capability or known.compute_capability
    bus = known.host_bandwidth_bytes_per_second
    if spec.pcie_gbps is None and device.pcie_generation and device.pcie_lanes:
        bus = pcie_bandwidth(device.pcie_generation, device.pcie_lanes)
    return replace(
        known,
        index=device.index,
        name=device.name,
        total_bytes=total,
        free_bytes=min(_read_free(nvml, device), total),
        source="nvml",
        host_bandwidth_bytes_per_second=bus,
        compute_capability=capability,
        supports_bf16=None if capability is None else capability >= (8, 0),
        supports_fp8=None if capability is None else capability >= (8, 9),
        nvlink=known.nvlink if device.nvlink is None else device.nvlink,
        numa_node=read_numa_node(device.pci_address),
    )


def _recall(card: CatalogueGpu | None, spec: GpuSpec) -> GpuFacts:
    """What the catalogue and the profile know of a card; its memory is left to the caller."""
    bus = None if spec.pcie_gbps is None else spec.pcie_gbps * GIGA
    if card is None:
        name = spec.model or "unnamed card"
        return GpuFacts(0, name, 0, 0, source="profile", host_bandwidth_bytes_per_second=bus)
    described = describe_card(card)
    return described if bus is None else replace(described, host_bandwidth_bytes_per_second=bus)


def _read_free(nvml: Nvml, device: NvmlDevice) -> int:
    """Free memory now; on a card that shares the host's RAM, what the host has available."""
    if device.memory_total_bytes == 0:
        return int(psutil.virtual_memory().available)
    reading = nvml.read(device.index)
    return 0 if reading is None else reading.memory_free_bytes


def _cuda_total(device: NvmlDevice, card: CatalogueGpu | None) -> int:
    """CUDA's total: what the driver does not reserve, else the catalogue's figure, else an estimate.

    A card that shares the host's RAM tells NVML nothing; the catalogue knows its size (GB10).
    """
    if device.memory_total_bytes and device.memory_reserved_bytes is not None:
        return device.memory_total_bytes - device.memory_reserved_bytes
    return _nearest_total(device.memory_total_bytes, card)


def _nearest_total(nvml_total_bytes: int, card: CatalogueGpu | None) -> int:
    """The catalogue's CUDA total when it is about a card of this size (or the size is not told), else an estimate."""
    if card is not None and (nvml_total_bytes == 0 or abs(nvml_total_bytes / card.nvml_total_bytes - 1) < 0.01):
        return card.total_bytes
    return estimate_cuda_total(nvml_total_bytes)


def _describe(spec: GpuSpec, notes: tuple[str, ...], present: str, origins: Mapping[str, str]) -> GpuReading:
    """Cards that are not here, from the profile and the catalogue."""
    card = None if spec.model is None else find_gpu(spec.model, spec.memory_mib)
    if card is None and spec.memory_mib is None:
        raise ConfigError(_unknown_card(spec, origins))
    total = _nearest_total((spec.memory_mib or 0) * MIB, card)
    gpu = replace(_recall(card, spec), total_bytes=total, free_bytes=max(total - OTHER_GPU_RESERVE_BYTES, 0))
    gpus = tuple(replace(gpu, index=index) for index in spec.devices or range(spec.count or 1))
    where = f"planned for another machine with {len(gpus)} x {gpu.name}; this one has {present}"
    return GpuReading(gpus, is_this_machine=False, notes=(*notes, where, *_doubts(spec, card)))


def _doubts(spec: GpuSpec, card: CatalogueGpu | None) -> tuple[str, ...]:
    """What a reader should know about the memory of a described card."""
    known_mib = None if card is None else card.nvml_total_bytes // MIB
    if card and known_mib and spec.memory_mib and abs(spec.memory_mib / known_mib - 1) >= _SAME_SIZE:
        other = f"hardware.gpu.memory_mib={spec.memory_mib} counts"
        return (f"the catalogue knows {card.name} with {known_mib} MiB; {other}",)
    if card is None or card.total_is_estimate:
        return ("what the driver keeps of the card's memory for itself is an estimate",)
    return ()


def _why_none(nvml: Nvml) -> str:
    return nvml.reason or "CUDA_VISIBLE_DEVICES hides every card"


def _render_present(nvml: Nvml, devices: Sequence[NvmlDevice]) -> str:
    """The cards of this machine in a few words: "2 x NVIDIA L4" or "none (why)"."""
    counts = Counter(device.name for device in devices)
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or f"none ({_why_none(nvml)})"


def _not_enough(spec: GpuSpec, present: str, origins: Mapping[str, str]) -> Problem:
    return Problem(
        f"the run wants {spec.count} cards, this machine has {present}",
        key="hardware.gpu.count",
        value=spec.count,
        origin=origins.get("hardware.gpu.count"),
        remedy="ask for fewer, or name the card (hardware.gpu.model=rtx4090) to plan for another machine",
        cause="not_enough_gpus",
    )


def _no_such_card(spec: GpuSpec, present: str, origins: Mapping[str, str]) -> Problem:
    return Problem(
        f"the run names cards by their numbers, and not all of them are here: this machine has {present}",
        key="hardware.gpu.devices",
        value=list(spec.devices or ()),
        origin=origins.get("hardware.gpu.devices"),
        remedy="number the cards as nvidia-smi does, from 0 on, or hardware.gpu.devices=auto",
        cause="not_enough_gpus",
    )


def _unknown_card(spec: GpuSpec, origins: Mapping[str, str]) -> Problem:
    question = did_you_mean(nearest_gpus(spec.model or ""))
    meant = f"{question} Else say" if question else "say"
    return Problem(
        f'no card called "{spec.model}" is in the catalogue',
        key="hardware.gpu.model",
        value=spec.model,
        origin=origins.get("hardware.gpu.model"),
        remedy=f"{meant} how much memory nvidia-smi shows for it: hardware.gpu.memory_mib=24576",
    )
