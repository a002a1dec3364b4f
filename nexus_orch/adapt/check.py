"""How a plan fares on other releases than its own: for `nexus engine check`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nexus_orch.choose import choose_adapter
from nexus_orch.contracts import Adapter, Rendering
from nexus_orch.errors import PluginError
from nexus_orch.types import EngineFacts, Plan


@dataclass(frozen=True)
class EngineCheck:
    """One release: which adapter speaks for it and what it makes of the plan; `adapter` is None when none does."""

    engine: EngineFacts
    adapter: str | None
    rendering: Rendering | None

    @property
    def is_accepted(self) -> bool:
        return self.rendering is not None and not self.rendering.problems


def check_profile(plan: Plan, adapters: Mapping[str, Adapter], engines: Iterable[EngineFacts]) -> list[EngineCheck]:
    """The plan's settings on each of these engines. Nothing is planned anew: only what can be said is judged."""
    return [_check(plan, adapters, engine) for engine in engines]


def _check(plan: Plan, adapters: Mapping[str, Adapter], engine: EngineFacts) -> EngineCheck:
    try:
        adapter = choose_adapter(adapters, engine.version)
    except PluginError:
        return EngineCheck(engine, None, None)
    return EngineCheck(engine, adapter.name, adapter.render(plan, engine))
