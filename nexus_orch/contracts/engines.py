"""What a plugin implements that offers a place where vLLM can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nexus_orch.contracts.adapters import Rendering
from nexus_orch.types import Command, EngineFacts, EngineSpec


class EngineProvider(Protocol):
    """A place where vLLM can run."""

    kind: str
    """As in `engine.kind`."""

    def find(self, spec: EngineSpec, *, cpu: bool) -> EngineFacts | None:
        """The engine that this spec means, with its version and flags read without importing it; None when there is
        none. `cpu` asks for an engine that runs without a GPU. Raises ConfigError when the spec names an engine that
        is broken or not of the wanted version."""

    def command(self, rendering: Rendering, engine: EngineFacts, env: Mapping[str, str]) -> Command:
        """The process to start for this rendering; `env` is the user's `engine.env`."""
