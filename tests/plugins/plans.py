"""The shipped plugins, and what they make of plans."""

from __future__ import annotations

from functools import cache

from nexus_orch.choose import choose_adapter
from nexus_orch.contracts import Rendering
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.testing.plans import make_settings_plan as plan_of
from nexus_orch.types import Plan

__all__ = ["plan_of", "render", "shipped_plugins"]


@cache
def shipped_plugins() -> Plugins:
    return load_plugins()


def render(plan: Plan, version: str, *, cpu: bool = False) -> Rendering:
    """What the shipped adapter of that release makes of a plan."""
    adapter = choose_adapter(shipped_plugins().adapters(), version)
    return adapter.render(plan, make_assumed_engine(version, cpu=cpu))
