"""Secrets on their way to an engine: read from the user's environment when it starts, and from nowhere else."""

from __future__ import annotations

import os

from nexus_orch.contracts import Rendering
from nexus_orch.errors import ConfigError, Problem


def read_secrets(rendering: Rendering) -> dict[str, str]:
    """The engine's variables that hold a secret, with their values. Raises ConfigError where one is not set."""
    return {name: _read(source) for name, source in rendering.secret_env.items()}


def _read(source: str) -> str:
    value = os.environ.get(source)
    if value:
        return value
    remedy = f"set it before the start: export {source}=..."
    raise ConfigError(
        Problem("the variable that holds the API key is not set", "serve.api_key_env", source, None, remedy)
    )
