"""The draft model of speculative decoding: read like the model itself. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nexus_orch import shipped
from nexus_orch.errors import ConfigError
from nexus_orch.facts.model.model import is_elsewhere, read_model
from nexus_orch.facts.profiles import read_profiles
from nexus_orch.releases.speculation import WITHOUT_DRAFT
from nexus_orch.types import ModelFacts, ModelSpec, RunSpec

KEY = "serve.speculative.model"


def read_draft(spec: RunSpec, origins: Mapping[str, str]) -> ModelFacts | None:
    """What is true about the draft model; None without one, and for a hub id of which nothing lies here and whose
    configuration nobody has given (serve.speculative.config). Raises ConfigError for a folder that cannot be read."""
    wanted = spec.serve.speculative
    if wanted.model is None or wanted.method in WITHOUT_DRAFT:
        return None
    config = wanted.config or (_shipped_config(wanted.model) if is_elsewhere(wanted.model) else None)
    if config is None and is_elsewhere(wanted.model):
        return None
    try:
        return read_model(ModelSpec(name=wanted.model, path=wanted.model, config=config), origins)
    except ConfigError as error:
        origin = origins.get(KEY)
        problems = [replace(problem, key=KEY, value=wanted.model, origin=origin) for problem in error.problems]
        raise ConfigError(*problems) from error


def _shipped_config(hub_id: str) -> Mapping[str, Any] | None:
    """The configuration of the model profile that names this hub id, where one that is shipped does."""
    profiles = read_profiles([shipped.conf_dir()], "model").values()
    named = (profile.get("config") for profile in profiles if profile.get("path") == hub_id)
    return next((config for config in named if isinstance(config, dict)), None)
