"""`nexus doctor`: one screen on whether this machine can plan and serve, and what to do where it cannot."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus_orch import paths
from nexus_orch.errors import ConfigError, ExitCode
from nexus_orch.facts.engine.installed import read_engine
from nexus_orch.facts.machine.machine import read_machine
from nexus_orch.install.engines.installed import Engine, read_engines
from nexus_orch.install.engines.recipe import make_recipe
from nexus_orch.install.models.recipe import is_fetched, known_models
from nexus_orch.launch.server.ports import FIRST_PORT, find_port_problem
from nexus_orch.nvml import open_nvml
from nexus_orch.types import GIB, MIB, HardwareSpec, HostFacts, MachineFacts

LOW_RAM_BYTES = 4 * GIB
"""The CPU engine with the small model holds 2.5 GiB while it serves and more while it compiles."""
LOW_DISK_BYTES = 8 * GIB
"""Room for one CPU engine and the small model, twice."""
LOW_SHARED_MEMORY_BYTES = 1 * GIB
"""Containers have 64 MiB by default, in which NCCL and vLLM's workers fail as soon as there are two of them."""
BUSY_SHARE = 0.1
"""A card with more of its memory in use than this cannot be planned at 0.9 utilization, which is vLLM's default."""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do when it is not good."""

    name: str
    state: Literal["good", "warn", "bad"]
    text: str
    remedy: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    checks = tuple(read_checks())
    good = all(check.state != "bad" for check in checks)
    if args.format == "json":
        sys.stdout.write(json.dumps({"good": good, "checks": [asdict(check) for check in checks]}, indent=2) + "\n")
    else:
        _print_table(checks)
    return ExitCode.GOOD if good else ExitCode.ENVIRONMENT


def read_checks() -> Iterator[Check]:
    """Everything that is looked at, in the order in which it is shown."""
    machine = read_machine(HardwareSpec(), {})
    yield judge_python(platform.python_version())
    yield judge_platform(machine, platform.platform(terse=True))
    yield judge_ram(machine.host)
    yield judge_swap(machine.host)
    if sys.platform == "linux":
        yield judge_shared_memory(_read_shared_memory())
    yield from read_gpu_checks(machine)
    yield read_home_check()
    yield from read_engine_checks()
    yield from (_judge_model(name, is_fetched(name)) for name in known_models())
    yield read_port_check()


def judge_python(version: str) -> Check:
    """Whether the default engine can be made with the Python that runs nexus_orch."""
    wanted = make_recipe("cpu").requires_python or ""
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("python", "good", version)
    remedy = "name another one when you install an engine: nexus engine install cpu --python PATH"
    return Check("python", "warn", f"{version}; the default engine needs {wanted}", remedy)


def judge_platform(machine: MachineFacts, name: str) -> Check:
    if machine.platform == "linux":
        return Check("platform", "good", f"{name} under Windows (WSL)" if machine.is_wsl else name)
    remedy = "plan here; serve on Linux, or under Windows in WSL 2"
    return Check("platform", "warn", f"{name}: vLLM serves on Linux", remedy)


def judge_ram(host: HostFacts) -> Check:
    limit = "" if host.cgroup_limit_bytes is None else ", limited by a control group"
    text = f"{_gib(host.ram_available_bytes)} of {_gib(host.ram_total_bytes)} available{limit}"
    if host.ram_available_bytes >= LOW_RAM_BYTES:
        return Check("ram", "good", text)
    return Check("ram", "warn", text, f"close other programs: even the small model wants {_gib(LOW_RAM_BYTES)}")


def judge_swap(host: HostFacts) -> Check:
    if host.swap_total_bytes == 0:
        return Check("swap", "good", "none")
    return Check("swap", "good", f"{_gib(host.swap_free_bytes)} of {_gib(host.swap_total_bytes)} free")


def judge_shared_memory(size_bytes: int | None) -> Check:
    remedy = "start the container with --shm-size=8g or --ipc=host"
    if size_bytes is None:
        return Check("shared memory", "warn", "there is no /dev/shm", remedy)
    if size_bytes >= LOW_SHARED_MEMORY_BYTES:
        return Check("shared memory", "good", _gib(size_bytes))
    return Check("shared memory", "warn", f"{size_bytes / MIB:.0f} MiB: too little for more than one worker", remedy)


def read_gpu_checks(machine: MachineFacts) -> Iterator[Check]:
    """One line for the driver and one for each card."""
    with open_nvml() as nvml:
        if not nvml.devices:
            remedy = "hardware=cpu serves without a card; for an NVIDIA card, install its driver"
            yield Check("gpu", "warn", f"no card: {nvml.reason}", remedy)
            return
        yield Check("driver", "good", f"{nvml.driver_version}, CUDA up to {nvml.cuda_version}")
        holders = {card.index: [process.pid for process in nvml.processes(card.index)] for card in nvml.devices}
    for card in machine.gpus:
        yield judge_gpu(f"gpu {card.index}", card.name, card.free_bytes, card.total_bytes, holders.get(card.index, []))


def judge_gpu(name: str, model: str, free_bytes: int, total_bytes: int, holders: list[int]) -> Check:
    text = f"{model}, {_gib(free_bytes)} of {_gib(total_bytes)} free"
    if free_bytes >= total_bytes * (1 - BUSY_SHARE):
        return Check(name, "good", text)
    who = f"process {', '.join(map(str, holders))}" if holders else "what holds it"
    return Check(name, "warn", text, f"stop {who} (nexus ps), or plan with less memory.gpu_memory_utilization")


def read_home_check() -> Check:
    """Whether the data directory can be written and has room."""
    home = paths.home_dir()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    text = f"{home}, {_gib(free)} free"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("home", "bad", f"{home} cannot be written", "choose another place with NEXUS_HOME=DIR")
    if free < LOW_DISK_BYTES:
        return Check("home", "warn", text, "free some space, or choose another place with NEXUS_HOME=DIR")
    return Check("home", "good", text)


def read_engine_checks() -> Iterator[Check]:
    """One line for each environment that nexus_orch made, and one for a vLLM on the PATH."""
    engines = read_engines()
    yield from (judge_engine(engine) for engine in engines)
    command = shutil.which("vllm")
    if command is not None:
        yield _read_engine_on_path(Path(command))
    elif not engines:
        yield Check("engine", "warn", "none; plans work, runs do not", "nexus engine install cpu")


def judge_engine(engine: Engine) -> Check:
    name, device = f"engine {engine.name}", engine.name.partition("-")[0]
    if engine.state == "ready":
        return Check(name, "good", f"vLLM {engine.version} for {engine.device}")
    again = f"nexus engine install {device} --version {engine.name.partition('-')[2]}"
    if engine.state == "unfinished":
        return Check(name, "warn", engine.state_text, f"go on: {again}")
    return Check(name, "bad", engine.state_text, f"{again} --force, or nexus engine remove {engine.name}")


def _read_engine_on_path(command: Path) -> Check:
    python = command.with_name("python.exe" if sys.platform == "win32" else "python")
    try:
        engine = read_engine(python)
    except ConfigError as error:
        remedy = "name its interpreter with engine.python=PATH"
        return Check("vllm on PATH", "warn", f"{command}: {error.problems[0].message}", remedy)
    return Check("vllm on PATH", "good", f"vLLM {engine.version} for {engine.device}, {python}")


def _judge_model(name: str, fetched: bool) -> Check:
    return Check(f"model {name}", "good", "fetched" if fetched else "not fetched; the first run fetches it")


def read_port_check(port: int = FIRST_PORT) -> Check:
    """Whether a port is free: that which a run takes first."""
    problem = find_port_problem("127.0.0.1", port)
    if problem is None:
        return Check("port", "good", f"{port} is free")
    return Check("port", "warn", problem.message, "nothing needs to be done: a run takes the next free port")


def _read_shared_memory() -> int | None:
    folder = Path("/dev/shm")
    return shutil.disk_usage(folder).total if folder.is_dir() else None


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


def _print_table(checks: tuple[Check, ...]) -> None:
    styles = {"good": "green", "warn": "yellow", "bad": "bold red"}
    table = Table("", "", "", box=None, pad_edge=False, show_header=False)
    for check in checks:
        table.add_row(Text(check.state, styles[check.state]), Text(check.name), Text(check.text))
        if check.remedy is not None:
            table.add_row("", "", Text(f"remedy: {check.remedy}", "dim"))
    Console().print(table, highlight=False)
