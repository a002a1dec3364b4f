"""Runs the probe in the engine's own environment, one card after another, so that no copy disturbs another one."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.errors import ConfigError, LaunchError, Problem
from nexus_orch.judge.learned.bus import CardBus
from nexus_orch.types import EngineFacts, GpuFacts, LayerRead

SCRIPT = Path(__file__).with_name("probe_script.py")
Matrices = tuple[tuple[int, int], ...]
"""Rows and columns of each matrix of a layer, on one rank."""

LIMIT_SECONDS = 180.0
"""PyTorch and vLLM are imported in 10 to 60 s; the measurement itself takes about 5 s."""


@dataclass(frozen=True)
class MeasuredBus:
    """The bus of each card, and what the processors read of RAM, in bytes per second."""

    cards: tuple[CardBus, ...]
    ram_bytes_per_second: float | None


def measure_bus(
    python: str,
    gpus: Sequence[GpuFacts],
    told: Callable[[str], None],
    *,
    layer: Matrices = (),
    limit_seconds: float = LIMIT_SECONDS,
) -> MeasuredBus:
    """Measure each card with the interpreter of an engine's environment; `told` hears which one is next, and `layer`
    are the matrices of a model's layer.

    Raises LaunchError when the probe fails, or says nothing within `limit_seconds` for a card.
    """
    cards, ram = [], None
    for gpu in gpus:
        told(f"GPU {gpu.index} ({gpu.name})")
        card, seen = _run_probe(python, gpu, layer, limit_seconds)
        cards.append(card)
        ram = seen or ram
    return MeasuredBus(tuple(cards), ram)


def require_engine(engine: EngineFacts | None) -> tuple[EngineFacts, str]:
    """The engine and its interpreter. Raises ConfigError without an installed one: the probe needs its PyTorch."""
    if engine is not None and engine.python is not None:
        return engine, engine.python
    remedy = "nexus engine install cuda, or engine.python=PATH of an environment with vLLM"
    raise ConfigError(
        Problem("the bus is measured with the engine's PyTorch, and no engine is installed", remedy=remedy)
    )


def _run_probe(python: str, gpu: GpuFacts, layer: Matrices, limit_seconds: float) -> tuple[CardBus, float | None]:
    # By its number, whatever CUDA_VISIBLE_DEVICES says outside: the cards were chosen with that in mind.
    env = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu.index)}
    argv = [python, str(SCRIPT), *([json.dumps(layer)] if layer else [])]
    try:
        ended = subprocess.run(
            argv, env=env, capture_output=True, text=True, errors="replace", timeout=limit_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise _fail(gpu, f"no answer within {limit_seconds:g} s") from None
    except OSError as error:
        raise _fail(gpu, f"{python}: {error.strerror}") from None
    if ended.returncode == 0:
        for line in reversed(ended.stdout.splitlines()):  # libraries may print before the answer, and behind it
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                return _parse_answer(line, gpu, layer)
    said = [line.strip() for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
    raise _fail(gpu, said[-1] if said else f"exit code {ended.returncode}, without a word")


def _parse_answer(line: str, gpu: GpuFacts, layer: Matrices) -> tuple[CardBus, float | None]:
    """The card's bus, and the rate of RAM where it is told. Raises one of several errors for any other line."""
    answer = json.loads(line)
    reads, ram = answer.get("read_bytes_per_second") or {}, answer.get("ram_bytes_per_second")
    read, told = reads.get("1"), answer.get("layer_bytes_per_second") or {}
    rates = tuple((int(tokens), _parse_rate(rate)) for tokens, rate in told.items())
    card = CardBus(
        gpu.index,
        gpu.name,
        _parse_rate(answer["copy_bytes_per_second"]),
        None if read is None else _parse_rate(read),
        LayerRead(layer, rates) if rates else None,
    )
    return card, None if ram is None else _parse_rate(ram)


def _parse_rate(value: Any) -> float:
    rate = float(value)
    if not 0 < rate < math.inf:
        raise ValueError(value)
    return rate


def _fail(gpu: GpuFacts, reason: str) -> LaunchError:
    message = f"the bus of GPU {gpu.index} ({gpu.name}) could not be measured: {reason}"
    return LaunchError(
        Problem(message, remedy="nexus doctor; the card must have 1 GiB free, and the host 2 GiB of RAM")
    )
