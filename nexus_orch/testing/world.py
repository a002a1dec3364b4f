"""A simulated machine behind a fake engine: the worlds in which searches are tried (`python -m bench.sweep --world`).

The file defines GRID (keys of ours to lists of values) and `make(seed)`, whose result has `launch(settings)`,
`measure(settings, concurrency)` and `soak(settings)`. A fake engine asks it how its start ends, `bench serve` how fast
it is, and its requests whether they are answered.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from nexus_orch.testing.engine import FakeEngine
from nexus_orch.types.causes import Cause

JIT_LINE = (
    "(EngineCore pid=1) WARNING [jit_monitor.py:129] Triton kernel JIT compilation during inference: fake_kernel. "
    "This causes a latency spike; consider extending warmup to cover this shape/config.\n"
)
"""As vLLM's jit_monitor says it, where the world says that a measurement met compilation."""
_MADE_UP = 1_000_000


def read_world(path: str) -> Any:
    """The module of a world file. Raises ValueError for what is no Python file."""
    spec = importlib.util.spec_from_file_location(f"fake_world_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class FakeWorld:
    """The machine on which one fake engine runs.

    Each call draws from the world's own chance. So that the processes of one sweep do not all draw the same, the calls
    of earlier ones, counted in a file beside the world's, are made again first.
    """

    machine: Any
    settings: Mapping[str, Any]
    counts: Path
    requests: int = 0
    _soak: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, engine: FakeEngine) -> FakeWorld | None:
        """The world of an engine; None for one that has none."""
        if engine.world is None:
            return None
        machine = read_world(engine.world).make(engine.world_seed)
        return cls(machine, engine.world_settings, Path(f"{engine.world}.calls"))

    def launch(self, engine: FakeEngine, max_model_len: int) -> FakeEngine:
        """The engine as its start ends here."""
        told = self._draw("launch", self.settings)
        cause = told.get("start", "ready")
        engine = replace(engine, kv_cache_tokens=int(told.get("kv_cache_tokens") or engine.kv_cache_tokens))
        if cause == "ready":
            return engine
        if cause == "context_too_long":
            return replace(engine, max_context=max(1, max_model_len - 1))
        return replace(engine, fails=cast("Cause", cause) if cause in get_args(Cause) else "profile_oom")

    def measure(self, concurrency: int) -> Mapping[str, Any]:
        """What the world says of a load."""
        return self._draw("measure", self.settings, concurrency)

    def answers(self, tokens: int) -> bool | None:
        """Whether a request of so many tokens, prompt and answer, is answered; None when the engine dies of it."""
        if self._soak is None:
            self._soak = self._draw("soak", self.settings)
        died_at = self._soak.get("died_at_tokens")
        if died_at is not None and tokens >= died_at:
            return None
        self.requests += 1
        failed, asked = self._soak.get("failed") or 0, self._soak.get("requests") or _MADE_UP
        return not failed or self.requests % max(1, round(asked / failed)) != 0

    def _draw(self, name: str, *arguments: Any) -> Mapping[str, Any]:
        path = self.counts.with_name(f"{self.counts.name}.{name}")
        earlier = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(b".")
        told: Mapping[str, Any] = {}
        for _ in range(earlier + 1):
            told = getattr(self.machine, name)(*arguments)
        return told
