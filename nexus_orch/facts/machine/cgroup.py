"""The memory that control groups allow this process (Linux, both versions): containers, batch jobs, systemd slices.

A limit binds everything below it, so every group from the process's own up to the mount counts. `root` stands for "/"
and lets the tests lay out a machine of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of the page size below 2**63."""


@dataclass(frozen=True)
class CgroupMemory:
    """The tightest limits above this process; None where there is none."""

    limit_bytes: int | None = None
    available_bytes: int | None = None
    """What may still be taken below the limits. File cache that the kernel can drop counts as available."""
    swap_limit_bytes: int | None = None
    """Version 2 only: version 1 limits memory and swap together."""


@dataclass(frozen=True)
class _Files:
    """The names of one version's files, and of the droppable file cache inside memory.stat."""

    limits: tuple[str, ...]
    usage: str
    swap_limit: str | None
    droppable: str


_V1 = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", None, "total_inactive_file")
_V2 = _Files(("memory.max", "memory.high"), "memory.current", "memory.swap.max", "inactive_file")
"""memory.high does not kill, but a process above it is slowed down until it is of no use."""


def read_cgroup_memory(root: Path = Path("/")) -> CgroupMemory:
    """The limits on this process; nothing is limited where there are no control groups (Windows, macOS)."""
    limits: list[int] = []
    available: list[int] = []
    swap_limits: list[int] = []
    for folder, files in _memory_groups(root):
        own_limits = [limit for name in files.limits if (limit := _read_number(folder / name)) is not None]
        if own_limits:
            limits += own_limits
            available.append(max(min(own_limits) - _read_used(folder, files), 0))
        swap_limit = None if files.swap_limit is None else _read_number(folder / files.swap_limit)
        if swap_limit is not None:
            swap_limits.append(swap_limit)
    return CgroupMemory(
        limit_bytes=min(limits, default=None),
        available_bytes=min(available, default=None),
        swap_limit_bytes=min(swap_limits, default=None),
    )


def _memory_groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """The folders of the groups that count the memory of this process, from its own upwards, as it sees them."""
    paths = _read_own_paths(root)
    for mount_root, mount_point, is_v2 in _read_mounts(root):
        path = paths.get(is_v2)
        if path is None:
            continue
        inside = _relative_to_mount(path, mount_root)
        for level in (inside, *inside.parents):
            yield root / mount_point.lstrip("/") / level, _V2 if is_v2 else _V1


def _read_own_paths(root: Path) -> dict[bool, str]:
    """The process's own group in version 2 (True) and in version 1's memory hierarchy (False).

    Lines of /proc/self/cgroup: "0::/path" is version 2, "4:memory:/path" version 1 (cgroups(7)).
    """
    paths: dict[bool, str] = {}
    for line in _read_lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[True] = path
        elif "memory" in controllers.split(","):
            paths[False] = path
    return paths


def _read_mounts(root: Path) -> Iterator[tuple[str, str, bool]]:
    """Root inside the hierarchy, mount point, and whether it is version 2, from /proc/self/mountinfo (proc(5))."""
    for line in _read_lines(root / "proc/self/mountinfo"):
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
            yield _unescape(fields[3]), _unescape(fields[4]), kind[0] == "cgroup2"


def _relative_to_mount(path: str, mount_root: str) -> PurePosixPath:
    """The group's folder below the mount point.

    A container without its own cgroup namespace reads the host's path in /proc/self/cgroup while its mount begins
    there. A group outside what is mounted ("/.." or another branch) is judged by the mount's own limits.
    """
    try:
        inside = PurePosixPath(path).relative_to(mount_root)
    except ValueError:
        return PurePosixPath(".")
    return PurePosixPath(".") if ".." in inside.parts else inside


def _read_used(folder: Path, files: _Files) -> int:
    usage = _read_number(folder / files.usage) or 0
    stat = dict(line.partition(" ")[::2] for line in _read_lines(folder / "memory.stat"))
    droppable = stat.get(files.droppable, "0")
    return max(usage - (int(droppable) if droppable.isdigit() else 0), 0)


def _read_number(file: Path) -> int | None:
    """The number in a control file; None for "max", for version 1's "no limit" and for a file that is not there."""
    text = "".join(_read_lines(file)).strip()
    if not text.isdigit() or int(text) >= _UNLIMITED:
        return None
    return int(text)


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _unescape(text: str) -> str:
    """mountinfo writes blanks and backslashes of a path as octal, such as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
