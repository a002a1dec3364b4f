"""What a file lies on, by a machine that the test lays out and by this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexus_orch.facts.model.storage import read_storage


def _write_machine(root: Path, file: Path, file_system: str, disk: str = "", rotational: str = "") -> Path:
    """mountinfo and sysfs of a machine on which this file's device is that disk."""
    device = file.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(
        f"22 1 0:99 / /proc rw - proc proc rw\n36 35 {number} / /data rw shared:1 - {file_system} source rw\n",
        encoding="utf-8",
    )
    if disk:
        queue = root / "sys/devices" / disk / "queue"
        queue.mkdir(parents=True)
        (queue / "rotational").write_text(f"{rotational}\n", encoding="ascii")
        partition = root / "sys/devices" / disk / f"{disk}1"
        partition.mkdir()
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "sys/dev/block" / number).symlink_to(partition)
    return root


@pytest.mark.parametrize(
    ("file_system", "disk", "rotational", "storage"),
    [
        ("nfs4", "", "", "network"),
        ("fuse.sshfs", "", "", "network"),
        ("virtiofs", "", "", "network"),
        ("tmpfs", "", "", "memory"),
        ("ext4", "sda", "1", "rotating"),
        ("xfs", "nvme0n1", "0", "solid"),
        ("ext4", "vda", "1", "unknown"),
        ("overlay", "", "", "unknown"),
    ],
)
def test_storage_is_told_apart(tmp_path: Path, file_system: str, disk: str, rotational: str, storage: str) -> None:
    file = tmp_path / "weights"
    file.touch()
    root = _write_machine(tmp_path / "root", file, file_system, disk, rotational)
    assert read_storage(file, root) == storage


def test_what_cannot_be_asked_is_unknown(tmp_path: Path) -> None:
    assert read_storage(tmp_path, tmp_path / "no-root") == "unknown"
    assert read_storage(tmp_path / "gone") == "unknown"


def test_shared_memory_is_memory() -> None:
    assert read_storage(Path("/dev/shm")) == "memory"
