"""What an engine environment is made of: data, so that a small recipe tests the installer that a real one uses."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from nexus_orch import data
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.suggest import suggest
from nexus_orch.types import GIB, Device

DEVICES: tuple[Device, ...] = ("cpu", "cuda")

CUDA_DISK_GIB = 12.0
"""vLLM with the CUDA build of torch and NVIDIA's libraries: an estimate from the sizes of their wheels, rounded up."""


@dataclass(frozen=True)
class EngineRecipe:
    """One engine environment. `module` is both what is imported and the distribution that it looks itself up as.

    With `own_dependencies` pip installs the distribution with all that it asks for. Without, the installer chooses:
    torch first, then `requirements` (None: those of the wheel's METADATA less `left_out`), then the wheel alone.
    """

    name: str
    device: Device
    version: str
    distribution: str
    module: str
    disk_bytes: int
    own_dependencies: bool = False
    requires_python: str | None = None
    """None when it is known only from the wheel; pip refuses an unsuitable Python then."""
    torch: str | None = None
    """The public version of torch; None takes the pin of the wheel's METADATA."""
    requirements: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()


def make_recipe(device: str, version: str | None = None) -> EngineRecipe:
    """The recipe for vLLM on "cpu" or "cuda". Raises ConfigError for another device or something not a version."""
    wanted: str = data.load("engine_cpu.json")["default_version"] if version is None else _parse_version(version)
    match device:
        case "cpu":
            return _make_cpu_recipe(wanted)
        case "cuda":
            return EngineRecipe(
                name=f"cuda-{wanted}",
                device="cuda",
                version=wanted,
                distribution="vllm",
                module="vllm",
                disk_bytes=int(CUDA_DISK_GIB * GIB),
                own_dependencies=True,
            )
    raise ConfigError(Problem(f"unknown engine '{device}'", remedy=f"one of: {', '.join(DEVICES)}"))


def known_cpu_versions() -> tuple[str, ...]:
    """The vLLM releases whose CPU wheels were looked at, oldest first."""
    return tuple(data.load("engine_cpu.json")["releases"])


def _make_cpu_recipe(version: str) -> EngineRecipe:
    catalogue = data.load("engine_cpu.json")
    known = catalogue["releases"].get(version, {})
    return EngineRecipe(
        name=f"cpu-{version}",
        device="cpu",
        version=version,
        distribution=catalogue["distribution"],
        module="vllm",
        disk_bytes=int(catalogue["disk_gib"] * GIB),
        requires_python=known.get("requires_python"),
        torch=known.get("torch"),
        requirements=tuple(known["requirements"]) if "requirements" in known else None,
        left_out=tuple(catalogue["left_out"]),
    )


def _parse_version(text: str) -> str:
    try:
        return str(Version(text))
    except InvalidVersion:
        known = known_cpu_versions()
        remedy = suggest(text, known) or f"for example {known[-1]}"
        raise ConfigError(Problem("this is not a version", "--version", text, "command line", remedy)) from None
