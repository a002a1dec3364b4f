"""The settings that an engine provider adds, against the schema that it declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from nexus_orch.compose.values import make_bad_value
from nexus_orch.errors import Problem
from nexus_orch.types import RunSpec


def judge_settings(settings: Mapping[str, Mapping[str, Any]], spec: RunSpec) -> Iterator[Problem]:
    """One problem for each value that its schema refuses; what the provider does not add is not ours to judge."""
    for name, schema in settings.items():
        if name in spec.plugin and not Draft202012Validator(schema).is_valid(_plain(spec.plugin[name])):
            key = f"plugin.{name}"
            yield make_bad_value(key, spec.plugin[name], schema, spec.origin(key))


def find_schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Why this is no schema of a setting: no JSON Schema, or without a type or a description for messages."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"is no JSON Schema: {error.message}"
    lacking = [word for word in ("type", "description") if not schema.get(word)]
    return f"has no {' and no '.join(lacking)}" if lacking else None


def _plain(value: Any) -> Any:
    """The value as JSON knows it: a list is no tuple."""
    return list(value) if isinstance(value, tuple) else value
