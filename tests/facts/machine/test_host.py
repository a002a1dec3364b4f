"""The host: measured on this machine, narrowed by control groups, overridden by a profile or the command line."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from nexus_orch.facts.machine.host import (
    OTHER_HOST_RESERVE_BYTES,
    count_numa_nodes,
    is_wsl,
    read_host,
    read_node_memory,
    read_numa_node,
    read_shared_memory,
    read_this_host,
)
from nexus_orch.types import GIB, HostSpec

CONTAINER = {
    "proc/self/cgroup": "0::/",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
    "sys/fs/cgroup/memory.max": str(GIB),
    "sys/fs/cgroup/memory.current": str(GIB // 4),
    "sys/fs/cgroup/memory.swap.max": "0",
}


@pytest.fixture(autouse=True)
def outside_wsl(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WSL_DISTRO_NAME", "WSL_INTEROP"):
        monkeypatch.delenv(name, raising=False)


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content + "\n", encoding="utf-8")
    return root


def test_without_limits_the_machine_itself_counts(tmp_path: Path) -> None:
    host = read_this_host(tmp_path)
    assert host.ram_total_bytes == psutil.virtual_memory().total
    assert 0 < host.ram_available_bytes <= host.ram_total_bytes
    assert (host.cgroup_limit_bytes, host.pinned_limit_bytes, host.numa_nodes, host.source) == (None, None, 1, "os")
    assert host.cpu_count >= 1


def test_a_container_has_what_its_group_allows(tmp_path: Path) -> None:
    host = read_this_host(lay_out(tmp_path, CONTAINER))
    assert (host.ram_total_bytes, host.cgroup_limit_bytes) == (GIB, GIB)
    assert host.ram_available_bytes == GIB * 3 // 4
    assert (host.swap_total_bytes, host.swap_free_bytes) == (0, 0)


def test_wsl_pins_half_of_its_memory(tmp_path: Path) -> None:
    kernel = "Linux version 6.6.87.2-microsoft-standard-WSL2 (root@builder) (gcc 11.2.0)"
    host = read_this_host(lay_out(tmp_path, {"proc/version": kernel}))
    assert host.pinned_limit_bytes == host.ram_total_bytes // 2


def test_wsl_is_told_by_its_variables_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, {"proc/version": "Linux version 6.8.0-custom"})
    assert not is_wsl(tmp_path)
    monkeypatch.setenv("WSL_DISTRO_NAME", "Ubuntu")
    assert is_wsl(tmp_path)


def test_outside_linux_there_is_no_wsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSL_DISTRO_NAME", "Ubuntu")
    assert not is_wsl(tmp_path)


@pytest.mark.parametrize(("listing", "nodes"), [("0", 1), ("0-1", 2), ("0-1,4,6-7", 5), ("", 1)])
def test_numa_nodes_with_processors(tmp_path: Path, listing: str, nodes: int) -> None:
    assert count_numa_nodes(lay_out(tmp_path, {"sys/devices/system/node/has_cpu": listing})) == nodes


def test_a_pinned_figure_replaces_the_measured_one(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    host = read_host(HostSpec(ram_gib=0.5, reserved_gib=0.25, swap_gib=2), {}, root=root).facts
    assert (host.ram_total_bytes, host.ram_available_bytes) == (GIB // 2, GIB // 2)
    assert (host.reserved_bytes, host.swap_total_bytes, host.source) == (GIB // 4, 2 * GIB, "profile")


def test_more_memory_than_there_is_adds_to_what_is_available(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    host = read_host(HostSpec(ram_gib=3), {}, root=root).facts
    assert (host.ram_total_bytes, host.ram_available_bytes) == (3 * GIB, 2 * GIB + GIB * 3 // 4)


def test_an_assumption_yields_to_the_measurement_and_says_so(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    spec = HostSpec(ram_gib=64, reserved_gib=0.25, swap_gib=8)
    origins = {"hardware.host.ram_gib": "conf/hardware/rtx4090.yaml:9"}
    reading = read_host(spec, origins, is_assumption=True, root=root)
    assert (reading.facts.ram_total_bytes, reading.facts.swap_total_bytes) == (GIB, 0)
    assert reading.facts.reserved_bytes == GIB // 4
    assert reading.notes == ("the profile assumes 64 GiB of RAM; this machine has 1.0 GiB, which counts",)


def test_an_assumption_that_is_true_needs_no_note(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    assert read_host(HostSpec(ram_gib=1.05), {}, is_assumption=True, root=root).notes == ()


def test_the_command_line_beats_the_measurement(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    origins = {"hardware.host.ram_gib": "command line", "hardware.host.swap_gib": "command line"}
    reading = read_host(HostSpec(ram_gib=2, swap_gib=1), origins, is_assumption=True, root=root)
    assert (reading.facts.ram_total_bytes, reading.facts.swap_total_bytes) == (2 * GIB, GIB)
    assert reading.notes == ()


def test_another_machine_is_what_its_profile_says(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    host = read_host(HostSpec(ram_gib=128), {}, is_this_machine=False, root=root).facts
    assert (host.ram_total_bytes, host.ram_available_bytes) == (128 * GIB, 128 * GIB - OTHER_HOST_RESERVE_BYTES)
    assert (host.cgroup_limit_bytes, host.pinned_limit_bytes, host.swap_total_bytes) == (None, None, 0)


def test_another_machine_without_a_figure_is_assumed_to_be_like_this_one(tmp_path: Path) -> None:
    root = lay_out(tmp_path, CONTAINER)
    reading = read_host(HostSpec(), {}, is_this_machine=False, root=root)
    assert reading.facts.ram_total_bytes == GIB
    assert reading.notes == ("hardware.host.ram_gib is not set: the RAM of this machine is assumed",)


def test_what_each_node_has_free(tmp_path: Path) -> None:
    def meminfo(node: int, free: int) -> str:
        lines = (("MemTotal", 67_108_864), ("MemFree", free), ("FilePages", 2_097_152), ("Shmem", 1_048_576))
        return "\n".join(f"Node {node} {name}:   {kib} kB" for name, kib in lines)

    nodes = "sys/devices/system/node"
    files = {f"{nodes}/has_cpu": "0-1", f"{nodes}/node0/meminfo": meminfo(0, 0)}
    lay_out(tmp_path, {**files, f"{nodes}/node1/meminfo": meminfo(1, 31_457_280)})
    assert read_node_memory(tmp_path) == (GIB, 31 * GIB)
    assert read_this_host(tmp_path).node_available_bytes == (GIB, 31 * GIB)
    assert read_node_memory(lay_out(tmp_path / "other", {f"{nodes}/has_cpu": "0"})) == ()


def test_the_node_of_a_card(tmp_path: Path) -> None:
    lay_out(tmp_path, {"sys/bus/pci/devices/0000:3b:00.0/numa_node": "1"})
    lay_out(tmp_path, {"sys/bus/pci/devices/0000:5e:00.0/numa_node": "-1"})
    assert read_numa_node("0000:3b:00.0", tmp_path) == 1
    assert read_numa_node("0000:5e:00.0", tmp_path) is None
    assert read_numa_node("0000:99:00.0", tmp_path) is None
    assert read_numa_node(None, tmp_path) is None


def test_shared_memory(tmp_path: Path) -> None:
    assert read_shared_memory(tmp_path) is None
    (tmp_path / "dev/shm").mkdir(parents=True)
    free = read_shared_memory(tmp_path)
    assert free is not None
    assert free > 0
