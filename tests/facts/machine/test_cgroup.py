"""Control groups: the limits above a process, read from small trees that look like /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.facts.machine.cgroup import CgroupMemory, read_cgroup_memory
from nexus_orch.types import GIB

V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
V1_UNLIMITED = 9223372036854771712


def lay_out(root: Path, own: str, mounts: str, groups: dict[str, dict[str, object]]) -> None:
    files = {f"{group}/{name}": content for group, entries in groups.items() for name, content in entries.items()}
    for path, content in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n", encoding="utf-8")


def test_version_2_takes_the_tightest_limit_on_the_way_up(tmp_path: Path) -> None:
    groups: dict[str, dict[str, object]] = {
        "sys/fs/cgroup/user.slice": {"memory.max": 8 * GIB, "memory.current": 6 * GIB},
        "sys/fs/cgroup/user.slice/app.scope": {
            "memory.max": 16 * GIB,
            "memory.current": 3 * GIB,
            "memory.stat": f"anon 5\ninactive_file {GIB}",
            "memory.swap.max": 0,
        },
    }
    lay_out(tmp_path, "0::/user.slice/app.scope", V2_MOUNT.format(root="/"), groups)
    assert read_cgroup_memory(tmp_path) == CgroupMemory(8 * GIB, 2 * GIB, 0)


def test_version_2_counts_the_line_above_which_a_group_is_slowed_down(tmp_path: Path) -> None:
    group: dict[str, object] = {"memory.max": "max", "memory.high": 4 * GIB, "memory.current": GIB}
    lay_out(tmp_path, "0::/job", V2_MOUNT.format(root="/"), {"sys/fs/cgroup/job": group})
    assert read_cgroup_memory(tmp_path) == CgroupMemory(4 * GIB, 3 * GIB, None)


def test_file_cache_counts_as_available(tmp_path: Path) -> None:
    group: dict[str, object] = {
        "memory.max": 4 * GIB,
        "memory.current": 4 * GIB,
        "memory.stat": f"inactive_file {3 * GIB}",
    }
    lay_out(tmp_path, "0::/", V2_MOUNT.format(root="/"), {"sys/fs/cgroup": group})
    assert read_cgroup_memory(tmp_path).available_bytes == 3 * GIB


def test_version_1_memory_hierarchy(tmp_path: Path) -> None:
    own = "9:name=systemd:/\n4:cpu,memory:/batch/job7\n0::/"
    groups: dict[str, dict[str, object]] = {
        "sys/fs/cgroup/memory": {"memory.limit_in_bytes": V1_UNLIMITED},
        "sys/fs/cgroup/memory/batch": {"memory.limit_in_bytes": V1_UNLIMITED},
        "sys/fs/cgroup/memory/batch/job7": {
            "memory.limit_in_bytes": 10 * GIB,
            "memory.usage_in_bytes": 4 * GIB,
            "memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}",
        },
    }
    lay_out(tmp_path, own, V1_MOUNT.format(root="/"), groups)
    assert read_cgroup_memory(tmp_path) == CgroupMemory(10 * GIB, 7 * GIB, None)


@pytest.mark.parametrize("own", ["4:memory:/docker/abc", "4:memory:/docker/abc/deeper"])
def test_a_container_that_reads_the_path_of_its_host(tmp_path: Path, own: str) -> None:
    group: dict[str, object] = {"memory.limit_in_bytes": 2 * GIB, "memory.usage_in_bytes": GIB}
    lay_out(tmp_path, own, V1_MOUNT.format(root="/docker/abc"), {"sys/fs/cgroup/memory": group})
    assert read_cgroup_memory(tmp_path) == CgroupMemory(2 * GIB, GIB, None)


@pytest.mark.parametrize("own", ["0::/../../other", "0::/elsewhere"])
def test_a_group_outside_the_mount_is_judged_by_the_mount(tmp_path: Path, own: str) -> None:
    root = "/" if ".." in own else "/mine"
    group: dict[str, object] = {"memory.max": GIB, "memory.current": 0}
    lay_out(tmp_path, own, V2_MOUNT.format(root=root), {"sys/fs/cgroup": group})
    assert read_cgroup_memory(tmp_path).limit_bytes == GIB


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    mount = V2_MOUNT.format(root="/").replace("/sys/fs/cgroup", "/my\\040groups")
    lay_out(tmp_path, "0::/", mount, {"my groups": {"memory.max": GIB}})
    assert read_cgroup_memory(tmp_path).limit_bytes == GIB


def test_nothing_is_limited_without_limits(tmp_path: Path) -> None:
    lay_out(tmp_path, "0::/a", V2_MOUNT.format(root="/"), {"sys/fs/cgroup/a": {"memory.max": "max"}})
    assert read_cgroup_memory(tmp_path) == CgroupMemory()


def test_nothing_is_limited_without_control_groups(tmp_path: Path) -> None:
    assert read_cgroup_memory(tmp_path) == CgroupMemory()


def test_files_that_make_no_sense_limit_nothing(tmp_path: Path) -> None:
    groups: dict[str, dict[str, object]] = {"sys/fs/cgroup": {"memory.max": "lots", "memory.stat": "inactive_file x"}}
    lay_out(tmp_path, "nonsense\n0::/", "short line\n" + V2_MOUNT.format(root="/"), groups)
    assert read_cgroup_memory(tmp_path) == CgroupMemory()
