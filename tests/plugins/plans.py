"""Plans made of nothing but settings, and the shipped plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from nexus_orch.choose import choose_adapter
from nexus_orch.contracts import Rendering
from nexus_orch.facts.engine import make_assumed_engine
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.types import (
    Choice,
    EngineSpec,
    HostEstimate,
    ModelSpec,
    Origin,
    Plan,
    Prediction,
    RunSpec,
    ServeSpec,
)


@cache
def shipped_plugins() -> Plugins:
    return load_plugins()


def plan_of(
    settings: Mapping[str, Any],
    origin: Origin = "pinned",
    *,
    extra_args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Plan:
    """A plan for the model in /models/m with these settings, all of one origin."""
    spec = RunSpec(
        name="run",
        model=ModelSpec(path="/models/m"),
        serve=ServeSpec(extra_args=tuple(extra_args)),
        engine=EngineSpec(env=env or {}),
        origins={"serve.extra_args": "my.yaml", **{key: f"{key} on the command line" for key in settings}},
    )
    return Plan(
        spec=spec,
        fits=True,
        loader="vram_only",
        engine_version="",
        model="m",
        choices=tuple(Choice(key, value, origin, "a reason") for key, value in settings.items()),
        per_gpu=(),
        host=HostEstimate(0, 0, 0),
        prediction=Prediction(),
        kv_cache_tokens=0,
        max_model_len=0,
        max_concurrency=0.0,
    )


def render(plan: Plan, version: str, *, cpu: bool = False) -> Rendering:
    """What the shipped adapter of that release makes of a plan."""
    adapter = choose_adapter(shipped_plugins().adapters(), version)
    return adapter.render(plan, make_assumed_engine(version, cpu=cpu))
