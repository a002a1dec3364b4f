"""Options as JSON: only what differs from the defaults of `Flag` is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from nexus_orch.types import Flag

_DEFAULTS: Mapping[str, Any] = {item.name: item.default for item in fields(Flag) if item.default is not MISSING}
_TUPLES = ("aliases", "choices", "known_values")


def render_flag(flag: Flag) -> dict[str, Any]:
    """The option without its name, for JSON."""
    record: dict[str, Any] = {"kind": flag.kind}
    for name, default in _DEFAULTS.items():
        value = getattr(flag, name)
        if value != default or (value is False and default is None):
            record[name] = list(value) if isinstance(value, tuple) else value
    return record


def parse_flag(name: str, record: Mapping[str, Any]) -> Flag:
    """The option of that name. Raises TypeError or ValueError for a record that is not one."""
    values = dict(record)
    for key in _TUPLES:
        if key in values:
            values[key] = tuple(values[key])
    if not isinstance(values.get("kind"), str):
        raise ValueError(f"{name}: no kind")
    return Flag(name=name, **values)
