"""What a file lies on: a network, a rotating disk, a solid-state disk, or RAM itself (Linux; unknown elsewhere)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nexus_orch.types import Storage

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "lustre", "cifs", "smb3", "ceph", "glusterfs", "beegfs", "gpfs", "9p", "virtiofs", "afs", "wekafs"}
)
"""Names in /proc/self/mountinfo of file systems whose bytes come from another machine, or from outside this one."""
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
VIRTUAL_DISKS = ("vd", "xvd", "nbd", "rbd")
"""Disks of virtual machines and of the network call themselves rotating or not whatever lies behind them."""


def read_storage(file: Path, root: Path = Path("/")) -> Storage:
    """The kind of storage behind a file; "unknown" where the system does not tell. `root` stands for "/" in tests."""
    if sys.platform == "win32":
        return "unknown"
    try:
        device = file.stat().st_dev
    except OSError:
        return "unknown"
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = _read_file_system(number, root)
    if kind.startswith("fuse") or kind in NETWORK_FILE_SYSTEMS:
        return "network"
    if kind in MEMORY_FILE_SYSTEMS:
        return "memory"
    return _read_disk(number, root)


def _read_file_system(number: str, root: Path) -> str:
    """The type of the file system of a device, from the lines of mountinfo: "36 35 98:0 / /mnt rw - ext4 /dev/sda1 rw"
    (proc(5)); "" when it is not found."""
    try:
        lines = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 2 and fields[2] == number:
            return after.split(" ")[0]
    return ""


def _read_disk(number: str, root: Path) -> Storage:
    """Whether the disk of a block device turns; a partition's queue is its parent's."""
    device = (root / "sys/dev/block" / number).resolve()
    for folder in (device, device.parent):
        try:
            rotates = (folder / "queue/rotational").read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            continue
        if folder.name.startswith(VIRTUAL_DISKS):
            return "unknown"
        return "rotating" if rotates == "1" else "solid"
    return "unknown"
