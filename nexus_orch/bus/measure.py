"""Runs the probe in the engine's own environment, one card after another, so that no copy disturbs another one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.errors import ConfigError, LaunchError, Problem
from nexus_orch.judge.bus import CardBus
from nexus_orch.types import GpuFacts

SCRIPT = Path(__file__).with_name("probe_script.py")
LIMIT_SECONDS = 180.0
"""PyTorch and vLLM are imported in 10 to 60 s; the measurement itself takes about 5 s."""


@dataclass(frozen=True)
class Measured:
    """The bus of each card, and what the processors read of RAM, in bytes per second."""

    cards: tuple[CardBus, ...]
    ram_bytes_per_second: float | None


def measure_bus(python: str, gpus: Sequence[GpuFacts], told: Callable[[str], None]) -> Measured:
    """Measure each card with the interpreter of an engine's environment; `told` hears which one is next.

    Raises LaunchError when the probe fails or says nothing in time.
    """
    cards, ram = [], None
    for gpu in gpus:
        told(f"GPU {gpu.index} ({gpu.name})")
        answer = _run_probe(python, gpu)
        reads = answer.get("read_bytes_per_second") or {}
        cards.append(CardBus(gpu.index, gpu.name, float(answer["copy_bytes_per_second"]), reads.get("1")))
        ram = answer.get("ram_bytes_per_second") or ram
    return Measured(tuple(cards), ram)


def require_python(python: str | None) -> str:
    """The interpreter. Raises ConfigError without an installed engine: the probe needs its PyTorch."""
    if python is not None:
        return python
    remedy = "nexus engine install cuda, or engine.python=PATH of an environment with vLLM"
    raise ConfigError(
        Problem("the bus is measured with the engine's PyTorch, and no engine is installed", remedy=remedy)
    )


def _run_probe(python: str, gpu: GpuFacts) -> dict[str, Any]:
    # By its number, whatever CUDA_VISIBLE_DEVICES says outside: the cards were chosen with that in mind.
    env = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu.index)}
    try:
        ended = subprocess.run(
            [python, str(SCRIPT)], env=env, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _fail(gpu, f"no answer within {LIMIT_SECONDS:.0f} s") from None
    except OSError as error:
        raise _fail(gpu, f"{python}: {error.strerror}") from None
    lines = ended.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        return dict(answer) if "copy_bytes_per_second" in answer else _refuse(gpu, ended)
    except (ValueError, IndexError, TypeError):
        return _refuse(gpu, ended)


def _refuse(gpu: GpuFacts, ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    said = [line.strip() for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
    raise _fail(gpu, said[-1] if said else f"exit code {ended.returncode}")


def _fail(gpu: GpuFacts, reason: str) -> LaunchError:
    message = f"the bus of GPU {gpu.index} ({gpu.name}) could not be measured: {reason}"
    return LaunchError(
        Problem(message, remedy="nexus doctor; the card must have 1 GiB free, and the host 2 GiB of RAM")
    )
