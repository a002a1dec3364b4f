"""What a plugin implements that says a plan to some releases of vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from packaging.specifiers import SpecifierSet

from nexus_orch.errors import Problem
from nexus_orch.types import Choice, EngineFacts, Plan


@dataclass(frozen=True)
class Rendering:
    """A plan in one vLLM release's own words: `argv` after the launcher (`serve MODEL --flag ...`), and environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    """Variables that are never shown, those of `secret_env` among them."""
    secret_env: Mapping[str, str] = field(default_factory=dict)
    """For each variable of the engine that holds a secret, the variable of the user's environment that it is copied
    from when the engine starts; the secret itself is in no record."""
    choices: tuple[Choice, ...] = ()
    """Settings that had to be replaced or dropped, with the reason; they go into the plan that is shown."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know beside that: settings that this release lost, whether the plan has them or not."""
    said: Mapping[str, str] = field(default_factory=dict)
    """For each option and variable of the rendering that one setting brings about, the key of that setting."""


class Adapter(Protocol):
    """A translator of version-free settings to the flags and variables of a range of vLLM releases. Pure."""

    @property
    def name(self) -> str:
        """As shown in plans."""

    @property
    def versions(self) -> SpecifierSet:
        """The releases that this adapter knows. Plugins must not overlap for one release unless one of them is
        named."""

    def render(self, plan: Plan, engine: EngineFacts) -> Rendering:
        """Never emit a flag that `engine.flags` lacks. A pinned setting that cannot be honoured is a problem."""
