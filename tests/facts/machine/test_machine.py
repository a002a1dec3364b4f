"""One node: cards and host together, here or elsewhere."""

from __future__ import annotations

import sys

import psutil
import pytest

from nexus_orch.facts.machine.machine import read_machine
from nexus_orch.types import GIB, GpuSpec, HardwareSpec, HostSpec
from tests.nvml_driver import Card, Driver


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stand_in = Driver(Card())
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_auto_is_this_machine() -> None:
    machine = read_machine(HardwareSpec(), {})
    assert (machine.name, machine.platform, machine.is_this_machine) == ("auto", sys.platform, True)
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA GeForce RTX 4090"]
    assert 0 < machine.host.ram_total_bytes <= psutil.virtual_memory().total


def test_a_profile_that_is_true_here_keeps_the_measured_memory() -> None:
    spec = HardwareSpec("rtx4090", GpuSpec("GeForce RTX 4090", 1, 24564), HostSpec(ram_gib=100_000))
    machine = read_machine(spec, {"hardware.host.ram_gib": "conf/hardware/rtx4090.yaml"})
    assert machine.is_this_machine
    assert machine.host.ram_total_bytes <= psutil.virtual_memory().total
    assert any("the profile assumes 100000 GiB of RAM" in note for note in machine.notes)


def test_a_profile_of_another_machine_is_taken_as_written() -> None:
    spec = HardwareSpec("a100_80gx8", GpuSpec("A100 SXM4 80GB", 8, 81920), HostSpec(ram_gib=1360))
    machine = read_machine(spec, {})
    assert (len(machine.gpus), machine.host.ram_total_bytes) == (8, 1360 * GIB)
    assert (machine.is_this_machine, machine.platform, machine.is_wsl) == (False, "linux", False)


def test_the_cpu_profile_pins_what_it_says() -> None:
    machine = read_machine(HardwareSpec("cpu", GpuSpec(count=0), HostSpec(ram_gib=2)), {})
    assert (machine.gpus, machine.is_this_machine, machine.host.ram_total_bytes) == ((), True, 2 * GIB)
