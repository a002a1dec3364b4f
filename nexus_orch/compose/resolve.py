"""A composed configuration to plain values: interpolations resolved, each one that cannot be told by its key; and
whole numbers read as people write them (32k)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nexus_orch.compose.schema import find_nearest_key, known_keys, types_of
from nexus_orch.errors import Problem
from nexus_orch.suggest import did_you_mean
from nexus_orch.types.numbers import read_human_number


def resolve(cfg: DictConfig, origins: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """The values without Hydra's own node, and a problem for each interpolation or `???` that has no value.

    A key whose value cannot be found is left out of the values. Where a whole number is wanted, 32k is 32,000 and 32K
    is 32,768, as vLLM's own command line reads them.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name in cfg:
        if name != "hydra":
            values |= _resolve_child(cfg, name, str(name), origins, problems)
    return values, problems


def _resolve_child(
    parent: DictConfig, name: Any, key: str, origins: Mapping[str, str], problems: list[Problem]
) -> dict[str, Any]:
    """The child as {name: value}, or nothing when it has no value; names such as 1 become text, as in JSON."""
    try:
        child = parent[name]
        if isinstance(child, DictConfig):
            names: list[Any] = list(child)
            parts = [_resolve_child(child, part, f"{key}.{part}", origins, problems) for part in names]
            return {str(name): {part: value for found in parts for part, value in found.items()}}
        value = OmegaConf.to_container(child, resolve=True) if isinstance(child, ListConfig) else child
        return {str(name): _read_number(key, value)}
    except MissingMandatoryValue:
        problems.append(Problem(f"{key} must be set", key, "???", origins.get(key), f"write {key}=VALUE"))
    except OmegaConfBaseException as error:
        written = OmegaConf.to_container(parent, resolve=False)
        raw = written.get(name) if isinstance(written, dict) else None
        problems.append(_make_unresolved(key, raw, str(error), origins.get(key)))
    return {}


def _read_number(key: str, value: Any) -> Any:
    """The whole number that a text with a unit stands for, where the key takes one; any other value as it is."""
    if isinstance(value, str) and key in known_keys() and "integer" in types_of(known_keys()[key]):
        with suppress(ValueError):
            return read_human_number(value)
    return value


def _make_unresolved(key: str, raw: object, reason: str, origin: str | None) -> Problem:
    message = reason.splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
    remedy = "mend the ${...} expression"
    if "Environment variable" in message:
        remedy = "set the variable, or give a default: ${oc.env:NAME,default}"
    elif message.startswith("Interpolation key"):
        wanted = message.partition("'")[2].partition("'")[0]
        nearest = find_nearest_key(wanted)
        remedy = did_you_mean([f"${{{nearest}}}"]) if nearest else remedy
    return Problem(f"{key} cannot be resolved: {message}", key, raw, origin, remedy)
