"""The host: how much RAM and swap a run may count on, here or on a machine that a profile describes."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from nexus_orch.facts.machine.cgroup import read_cgroup_memory
from nexus_orch.types import GIB, KIB, HostFacts, HostSpec

OTHER_HOST_RESERVE_BYTES = 2 * GIB
"""What the operating system and its services take on a machine that cannot be asked: an idle server or desktop of
today uses 1 to 2 GiB."""


@dataclass(frozen=True)
class HostReading:
    """The host's facts and what a reader should know about them."""

    facts: HostFacts
    notes: tuple[str, ...] = ()


def read_host(
    spec: HostSpec,
    origins: Mapping[str, str],
    *,
    is_this_machine: bool = True,
    is_assumption: bool = False,
    root: Path = Path("/"),
) -> HostReading:
    """RAM, swap, limits and processors of the host that this spec means.

    What the spec leaves open is asked of the operating system. `is_assumption` says that the spec belongs to a profile
    of some box with a certain card: on this machine its RAM and swap then yield to the measured ones, unless they were
    written on the command line, and a note tells when they differ. Another machine's figures are taken as written.
    """
    measured = read_this_host(root)
    if is_this_machine:
        wanted, notes = _yield_to_measurement(spec, measured, origins) if is_assumption else (spec, ())
        return HostReading(_override(measured, wanted), notes)
    if spec.ram_gib is None:
        note = "hardware.host.ram_gib is not set: the RAM of this machine is assumed"
        return HostReading(_override(measured, spec), (note,))
    return HostReading(_describe_other(spec, measured))


def read_this_host(root: Path = Path("/")) -> HostFacts:
    """What the operating system says: the smaller of the machine's memory and the control groups' limits."""
    memory = psutil.virtual_memory()
    with warnings.catch_warnings():  # psutil warns where /proc/vmstat lacks counters that are of no use here
        warnings.simplefilter("ignore", RuntimeWarning)
        swap = psutil.swap_memory()
    cgroup = read_cgroup_memory(root)
    swap_limit = swap.total if cgroup.swap_limit_bytes is None else cgroup.swap_limit_bytes
    total = memory.total if cgroup.limit_bytes is None else min(memory.total, cgroup.limit_bytes)
    available = memory.available if cgroup.available_bytes is None else min(memory.available, cgroup.available_bytes)
    return HostFacts(
        ram_total_bytes=total,
        ram_available_bytes=min(available, total),
        swap_total_bytes=min(swap.total, swap_limit),
        swap_free_bytes=min(swap.free, swap_limit),
        cpu_count=_count_cpus(),
        source="os",
        cgroup_limit_bytes=None if total == memory.total else total,
        pinned_limit_bytes=total // 2 if is_wsl(root) else None,
        numa_nodes=count_numa_nodes(root),
        shared_memory_bytes=read_shared_memory(root),
        node_available_bytes=read_node_memory(root),
    )


def is_wsl(root: Path = Path("/")) -> bool:
    """Whether this is Linux inside Windows (WSL), where CUDA can pin about half of the RAM.

    The kernel's name tells it inside containers too; the variables only in a login shell.
    """
    try:
        kernel = (root / "proc/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "microsoft" in kernel.lower() or bool(os.environ.get("WSL_DISTRO_NAME") or os.environ.get("WSL_INTEROP"))


def count_numa_nodes(root: Path = Path("/")) -> int:
    """Nodes with processors (Linux); 1 elsewhere. A card's memory can be a node of its own (GH200), without any."""
    try:
        listing = (root / "sys/devices/system/node/has_cpu").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 1
    nodes = 0
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", listing):  # such as "0-1,3"
        nodes += int(last or first) - int(first) + 1
    return max(nodes, 1)


def read_node_memory(root: Path = Path("/")) -> tuple[int, ...]:
    """What each NUMA node has free, page cache included, by its number (Linux); empty with one node or elsewhere."""
    if count_numa_nodes(root) < 2:
        return ()
    found: dict[int, int] = {}
    for file in (root / "sys/devices/system/node").glob("node[0-9]*/meminfo"):
        kib = dict(re.findall(r"(MemFree|FilePages|Shmem):\s+(\d+) kB", _read_text(file)))
        free = int(kib.get("MemFree", 0)) + int(kib.get("FilePages", 0)) - int(kib.get("Shmem", 0))
        found[int(file.parent.name.removeprefix("node"))] = max(0, free) * KIB
    return tuple(found.get(node, 0) for node in range(max(found, default=-1) + 1))


def read_numa_node(pci_address: str | None, root: Path = Path("/")) -> int | None:
    """The NUMA node of a card by its PCI address (Linux); None where there is one node only, or nobody can tell."""
    if pci_address is None:
        return None
    text = _read_text(root / "sys/bus/pci/devices" / pci_address / "numa_node").strip()
    return int(text) if text.isdecimal() else None


def read_shared_memory(root: Path = Path("/")) -> int | None:
    """What is free in /dev/shm; None where there is none (Windows, macOS)."""
    folder = root / "dev/shm"
    return int(psutil.disk_usage(str(folder)).free) if folder.is_dir() else None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _count_cpus() -> int:
    """Processors that this process may use, not all that the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _yield_to_measurement(
    spec: HostSpec, measured: HostFacts, origins: Mapping[str, str]
) -> tuple[HostSpec, tuple[str, ...]]:
    """The spec without what a file says of RAM and swap, since both are known here."""
    notes = []
    ram_gib, swap_gib = spec.ram_gib, spec.swap_gib
    if ram_gib is not None and not _is_from_command_line("hardware.host.ram_gib", origins):
        if abs(ram_gib * GIB / max(measured.ram_total_bytes, 1) - 1) > 0.1:
            here = measured.ram_total_bytes / GIB
            notes.append(f"the profile assumes {ram_gib:g} GiB of RAM; this machine has {here:.1f} GiB, which counts")
        ram_gib = None
    if swap_gib is not None and not _is_from_command_line("hardware.host.swap_gib", origins):
        swap_gib = None
    return replace(spec, ram_gib=ram_gib, swap_gib=swap_gib), tuple(notes)


def _is_from_command_line(key: str, origins: Mapping[str, str]) -> bool:
    return origins.get(key, "").startswith("command line")


def _override(measured: HostFacts, spec: HostSpec) -> HostFacts:
    """The measured host with the figures of the spec. More RAM than there is adds to what is available now."""
    facts = replace(measured, reserved_bytes=_bytes(spec.reserved_gib) or 0)
    ram, swap = _bytes(spec.ram_gib), _bytes(spec.swap_gib)
    if ram is not None:
        available = min(ram, measured.ram_available_bytes + max(ram - measured.ram_total_bytes, 0))
        pinned = None if measured.pinned_limit_bytes is None else ram // 2
        facts = replace(
            facts, ram_total_bytes=ram, ram_available_bytes=available, pinned_limit_bytes=pinned, source="profile"
        )
    if swap is not None:
        facts = replace(facts, swap_total_bytes=swap, swap_free_bytes=min(swap, max(swap - _used_swap(measured), 0)))
    return facts


def _describe_other(spec: HostSpec, measured: HostFacts) -> HostFacts:
    """A machine that cannot be asked: RAM from the profile, no limits, the processors of this machine."""
    ram, swap = _bytes(spec.ram_gib) or 0, _bytes(spec.swap_gib) or 0
    return HostFacts(
        ram_total_bytes=ram,
        ram_available_bytes=max(ram - OTHER_HOST_RESERVE_BYTES, 0),
        swap_total_bytes=swap,
        swap_free_bytes=swap,
        cpu_count=measured.cpu_count,
        source="profile",
        reserved_bytes=_bytes(spec.reserved_gib) or 0,
    )


def _used_swap(host: HostFacts) -> int:
    return host.swap_total_bytes - host.swap_free_bytes


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * GIB)
