"""Command: one engine start, ready to be run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

REDACTED = "***"

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)


def is_secret_name(variable: str) -> bool:
    """Whether an environment variable of this name holds a secret by the usual naming (HF_TOKEN, VLLM_API_KEY)."""
    return _SECRET_NAME.search(variable) is not None


@dataclass(frozen=True)
class Command:
    """`env` is added to the environment that the child inherits; `secrets` names its entries that are never shown."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    secrets: frozenset[str] = frozenset()
    path: tuple[str, ...] = ()
    """Folders that come before the inherited PATH: programs of the engine's own environment (ninja, nvcc)."""

    @property
    def shown_env(self) -> dict[str, str]:
        """The environment as it may be printed and stored. Secrets are redacted here and nowhere else."""
        return {name: REDACTED if name in self.secrets else value for name, value in self.env.items()}
