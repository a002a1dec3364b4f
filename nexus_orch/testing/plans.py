"""Plans made of nothing but settings: enough for an adapter, which only translates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

MODEL_PATH = "/models/m"


def make_settings_plan(
    settings: Mapping[str, Any],
    origin: Origin = "pinned",
    *,
    extra_args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Plan:
    """A plan for the model in /models/m with these settings, all of one origin; `env` is the user's `engine.env`."""
    spec = RunSpec(
        name="run",
        model=ModelSpec(path=MODEL_PATH),
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
