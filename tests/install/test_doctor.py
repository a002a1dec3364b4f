from __future__ import annotations

import dataclasses
import json
import socket
import sys
from pathlib import Path

import pytest

from nexus_orch import paths
from nexus_orch.cli import main
from nexus_orch.commands import doctor
from nexus_orch.commands.doctor import (
    judge_gpu,
    judge_platform,
    judge_python,
    judge_ram,
    judge_shared_memory,
    judge_swap,
)
from nexus_orch.install.work.journal import Journal
from nexus_orch.types import GIB, MIB, HostFacts, MachineFacts
from tests.nvml_driver import Card, Driver

HOST = HostFacts(
    ram_total_bytes=64 * GIB,
    ram_available_bytes=60 * GIB,
    swap_total_bytes=0,
    swap_free_bytes=0,
    cpu_count=8,
    source="os",
)
MACHINE = MachineFacts(name="auto", gpus=(), host=HOST, platform="linux")


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A machine with one idle card."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stand_in = Driver(Card(used_mib=300))
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def _read() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.read_checks()}


def test_a_fresh_machine_is_told_how_to_get_an_engine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(paths.home_dir()))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "nexus engine install cpu" in shown
    assert all(line.startswith(("good", "warn", "  ")) for line in shown.splitlines())


def test_the_lines_for_machines_are_the_lines_that_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["good"] is True
    assert [check["name"] for check in content["checks"]][:4] == ["python", "platform", "ram", "swap"]
    assert {check["state"] for check in content["checks"]} <= {"good", "warn"}
    assert all(check["remedy"] for check in content["checks"] if check["state"] == "warn")


def test_cards_are_shown_with_their_free_memory(driver: Driver) -> None:
    checks = _read()
    assert checks["driver"].text == "570.86.15, CUDA up to 12.8"
    assert checks["gpu 0"].state == "good"
    assert checks["gpu 0"].text.startswith("NVIDIA GeForce RTX 4090, 23.3 GiB of 23.6 GiB")
    assert driver.open_sessions == 0


def test_a_busy_card_names_who_holds_it(driver: Driver) -> None:
    driver.cards = (Card(used_mib=20_000),)
    check = _read()["gpu 0"]
    assert check.state == "warn"
    assert check.remedy is not None
    assert "stop process 41, 42" in check.remedy


def test_without_a_driver_the_cpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    check = _read()["gpu"]
    assert check.state == "warn"
    assert "hardware=cpu" in str(check.remedy)


def test_a_broken_engine_is_bad_and_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    folder = paths.engines_dir() / "cpu-0.31.0"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps({"version": "0.31.0", "device": "cpu", "python": "/gone"}))
    assert main(["doctor"]) == 5
    shown = " ".join(capsys.readouterr().out.split())
    assert "bad engine cpu-0.31.0 broken: its python is missing" in shown
    assert "nexus engine install cpu --version 0.31.0 --force" in shown


def test_engines_and_models_that_are_there() -> None:
    folder = paths.engines_dir() / "cpu-0.32.0"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps({"version": "0.32.0", "device": "cpu", "python": sys.executable}))
    Journal(paths.engines_dir() / "cuda-0.32.0" / "install.jsonl").append({"event": "begin", "steps": ["venv"]})
    checks = _read()
    assert (checks["engine cpu-0.32.0"].state, checks["engine cpu-0.32.0"].text) == ("good", "vLLM 0.32.0 for cpu")
    assert checks["engine cuda-0.32.0"].remedy == "go on: nexus engine install cuda --version 0.32.0"
    assert checks["model smollm2_135m"].text.startswith("not fetched")


def test_a_command_without_vllm_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / ("vllm.exe" if sys.platform == "win32" else "vllm")
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = _read()["vllm on PATH"]
    assert check.state == "warn"
    assert "no such interpreter" in check.text


def test_a_taken_port_names_its_holder() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        check = doctor.read_port_check(port)
    assert check.state == "warn"
    assert f"{port} is taken" in check.text
    assert doctor.read_port_check(port).state == "good"


def test_python() -> None:
    assert judge_python("3.12.4").state == "good"
    old = judge_python("3.10.1")
    assert old.state == "warn"
    assert "--python PATH" in str(old.remedy)


def test_platform() -> None:
    assert judge_platform(MACHINE, "Linux-6").text == "Linux-6"
    assert judge_platform(dataclasses.replace(MACHINE, is_wsl=True), "Linux-6").text == "Linux-6 under Windows (WSL)"
    assert judge_platform(dataclasses.replace(MACHINE, platform="win32"), "Windows-11").state == "warn"


def test_memory() -> None:
    assert judge_ram(HOST).text == "60.0 GiB of 64.0 GiB available"
    small = dataclasses.replace(HOST, ram_available_bytes=1 * GIB, cgroup_limit_bytes=2 * GIB)
    assert judge_ram(small).state == "warn"
    assert judge_ram(small).text.endswith("limited by a control group")
    assert judge_swap(HOST).text == "none"
    with_swap = dataclasses.replace(HOST, swap_total_bytes=8 * GIB, swap_free_bytes=6 * GIB)
    assert judge_swap(with_swap).text == "6.0 GiB of 8.0 GiB free"
    assert judge_shared_memory(8 * GIB).state == "good"
    assert "--shm-size" in str(judge_shared_memory(64 * MIB).remedy)
    assert judge_shared_memory(None).state == "warn"


def test_a_card_whose_holder_the_driver_hides() -> None:
    check = judge_gpu("gpu 0", "RTX 4090", 10 * GIB, 24 * GIB, [])
    assert check.state == "warn"
    assert "what holds it" in str(check.remedy)


def test_a_home_that_is_no_folder_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("NEXUS_HOME", str(file))
    assert doctor.read_home_check().state == "bad"
