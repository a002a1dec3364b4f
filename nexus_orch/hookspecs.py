"""The contract with plugins: what a plugin may offer. Declarations only.

A plugin is a Python file (or an installed package with an entry point in the group `nexus_orch`) that defines one or
more of these functions, each marked with `nexus_orch.hookimpl`. Plugins offer; `nexus_orch` chooses by pure rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from nexus_orch.contracts import Adapter, EngineProvider, Loader

hookspec = pluggy.HookspecMarker("nexus_orch")
hookimpl = pluggy.HookimplMarker("nexus_orch")


@hookspec
def nexus_loaders() -> Sequence[Loader]:  # type: ignore[empty-body]
    """Return the loaders that this plugin offers: ways to place a model's weights (`memory.strategy` names one)."""


@hookspec
def nexus_adapters() -> Sequence[Adapter]:  # type: ignore[empty-body]
    """Return the adapters that this plugin offers: translators of settings to the flags and variables of one range of
    vLLM releases."""


@hookspec
def nexus_engines() -> Sequence[EngineProvider]:  # type: ignore[empty-body]
    """Return the engine providers that this plugin offers: places where vLLM can run (`engine.kind` names one)."""
