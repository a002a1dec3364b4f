"""A world: a file that simulates a machine, so that a whole search runs in it without processes.

The file defines GRID (our keys to lists of values), BASE (overrides) and `make(seed)`, whose result has

- `launch(settings)`: {"start": "ready" or a cause, "kv_cache_tokens", "minutes"};
- `measure(settings, concurrency)`: {"tokens_per_second", "first_token_seconds", "failed", "requests", "jit"};
- `soak(settings)`: {"failed", "requests", "died_at_tokens", "memory_slope_bytes_per_hour"};
- `truth(settings)`: {"stable", "tokens_per_second"}, for the score only.

It needs nothing of nexus_orch, and keys of the answers may be missing.
"""

from __future__ import annotations

import importlib.util
import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nexus_orch.sweep.types import Costs, LaunchEnded, Soaked, Speed

Settings = Mapping[str, Any]
COSTS = Costs()


class Machine(Protocol):
    """What `make(seed)` of a world returns."""

    def launch(self, settings: Settings) -> Mapping[str, Any]: ...

    def measure(self, settings: Settings, concurrency: int) -> Mapping[str, Any]: ...

    def soak(self, settings: Settings) -> Mapping[str, Any]: ...

    def truth(self, settings: Settings) -> Mapping[str, Any]: ...


class World:
    """A world file, read."""

    def __init__(self, path: Path) -> None:
        spec = importlib.util.spec_from_file_location(f"world_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        self.name = path.stem
        self.grid: dict[str, list[Any]] = {key: list(values) for key, values in module.GRID.items()}
        self.base = read_base(module.BASE)
        self._make = module.make

    def make(self, seed: int) -> Machine:
        machine: Machine = self._make(seed)
        return machine

    def all_settings(self) -> list[dict[str, Any]]:
        names = list(self.grid)
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.values())]


def read_base(base: str | Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Overrides, however a world writes them: as one line, as a mapping, or as a list."""
    if isinstance(base, str):
        return tuple(shlex.split(base))
    if isinstance(base, Mapping):
        return tuple(f"{key}={value}" for key, value in base.items())
    return tuple(base)


class Player:
    """A machine that is played: starts and minutes are counted, answers become outcomes."""

    def __init__(self, machine: Machine, concurrency: int) -> None:
        self.machine, self.concurrency = machine, concurrency
        self.starts = self.failed_starts = 0
        self.minutes = 0.0

    def launch(self, point: int, settings: Settings, *, is_confirming: bool = False) -> LaunchEnded:
        told = self.machine.launch(dict(settings))
        cause = None if told.get("start") == "ready" else str(told.get("start") or "unknown")
        minutes = float(told.get("minutes") or COSTS.launch)
        self.starts += 1
        self.failed_starts += cause is not None
        self.minutes += minutes
        tokens = told.get("kv_cache_tokens")
        return LaunchEnded(point, cause, int(tokens) if tokens else None, minutes, is_confirming)

    def measure(self, point: int, settings: Settings, concurrency: int) -> Speed:
        told = self.machine.measure(dict(settings), concurrency)
        minutes = float(told.get("minutes") or COSTS.measure)
        self.minutes += minutes
        return Speed(
            point,
            concurrency,
            float(told.get("tokens_per_second") or 0.0),
            told.get("first_token_seconds"),
            failed=int(told.get("failed") or 0),
            requests=int(told.get("requests") or 0),
            is_spoilt=bool(told.get("jit")),
            minutes=minutes,
        )

    def soak(self, point: int, settings: Settings) -> Soaked:
        told = self.machine.soak(dict(settings))
        minutes = float(told.get("minutes") or COSTS.soak)
        self.minutes += minutes
        return Soaked(
            point,
            int(told.get("failed") or 0),
            int(told.get("requests") or 0),
            told.get("died_at_tokens"),
            told.get("memory_slope_bytes_per_hour"),
            told.get("memory_slope_error"),
            minutes=minutes,
        )
